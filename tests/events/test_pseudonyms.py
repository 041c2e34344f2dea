"""What sessions are called in audit files and spans."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import closing
from typing import Any

import pytest

from encrypted_sessions import Key, KeyRing
from encrypted_sessions.events.pseudonyms import checked_session_ids, opened_ring, pseudonym


def test_a_pseudonym_is_the_hmac_of_the_id_under_the_key():
    key = Key("1", b"k" * 32)
    assert pseudonym("müller", key) == hmac.new(b"k" * 32, "müller".encode(), hashlib.sha256).hexdigest()
    assert pseudonym("müller", Key("1", b"l" * 32)) != pseudonym("müller", key)


@pytest.mark.parametrize(
    ("session_ids", "keys", "error"),
    [
        ("hashed", None, ValueError),
        ("plain", "env:KEYS", ValueError),
        ("secret", None, ValueError),
        (1, None, TypeError),
    ],
)
def test_words_that_are_none_and_keys_that_are_missing_are_refused(session_ids: Any, keys: Any, error: Any):
    with pytest.raises(error, match="session_ids"):
        checked_session_ids(session_ids, keys)


def test_a_ring_that_was_given_is_not_ours_to_close():
    with closing(KeyRing.ephemeral()) as ring:
        assert opened_ring(ring, "pseudonym_keys") == (ring, False)
    made, is_ours = opened_ring("env:PSEUDONYM_KEYS", "pseudonym_keys")
    assert is_ours
    assert made is not None
    made.close()
    assert opened_ring(None, "pseudonym_keys") == (None, False)
    with pytest.raises(TypeError, match="pseudonym_keys must be a KeyRing, a URL or None, not int"):
        opened_ring(5, "pseudonym_keys")
