"""A resealer's kept encryptor gives what a fresh one gives, whatever it sealed before."""

from __future__ import annotations

import base64
import pickle

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from encrypted_sessions.core.derivation import derive_session_key
from encrypted_sessions.core.envelope import Envelope, openings, pack, pack_row, parse_row
from encrypted_sessions.core.suites.fernet_v1 import NotAnItem, SessionCipher, Unauthentic

KID = "name~00112233"
OLD, NEW = b"o" * 32, b"n" * 32


def fernet(secret: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(derive_session_key(secret, "s")))


def sealed(plaintext: bytes, timestamp: int) -> Envelope:
    token = fernet(OLD).encrypt_at_time(plaintext, timestamp)
    return Envelope(KID, base64.urlsafe_b64decode(token))


@given(st.lists(st.tuples(st.text(max_size=70), st.integers(0, 2**63)), min_size=1, max_size=8))
def test_fernet_opens_each_token_with_its_own_time_whatever_came_before(items: list[tuple[str, int]]):
    opener = SessionCipher.derive(OLD, "s").opener()
    resealer = SessionCipher.derive(NEW, "s").resealer()
    for text, timestamp in items:
        plaintext = b'{"a": "' + text.encode("unicode_escape").replace(b'"', b"").replace(b"\\", b"") + b'"}'
        if any(byte < 32 for byte in plaintext):
            continue
        envelope = sealed(plaintext, timestamp)
        opener.verify(envelope.token)
        token = base64.urlsafe_b64encode(resealer.reseal(envelope, opener))
        assert fernet(NEW).decrypt(token) == plaintext
        assert fernet(NEW).extract_timestamp(token) == timestamp


@given(st.lists(st.tuples(st.binary(max_size=100), st.binary(min_size=16, max_size=16)), min_size=1, max_size=8))
def test_it_gives_the_same_bytes_as_a_fresh_encryptor_with_that_iv(parts: list[tuple[bytes, bytes]]):
    cipher = SessionCipher.derive(NEW, "s")
    resealer = cipher.resealer()
    for plaintext, iv in parts:
        assert resealer._seal(plaintext, 7, iv) == cipher._seal(plaintext, 7, iv)


def test_every_token_has_an_iv_of_its_own():
    opener = SessionCipher.derive(OLD, "s").opener()
    resealer = SessionCipher.derive(NEW, "s").resealer()
    tokens = [resealer.reseal(sealed(b"{}", 5), opener) for _ in range(100)]
    assert len({token[9:25] for token in tokens}) == 100


@pytest.mark.parametrize("plaintext", [b"[]", b"", b"\xff", b"{", b'"a"'])
def test_what_is_no_item_is_not_resealed_and_the_next_one_is(plaintext: bytes):
    opener = SessionCipher.derive(OLD, "s").opener()
    resealer = SessionCipher.derive(NEW, "s").resealer()
    with pytest.raises(NotAnItem):
        resealer.reseal(sealed(plaintext, 5), opener)
    token = resealer.reseal(sealed(b"{}", 5), opener)
    assert fernet(NEW).decrypt(base64.urlsafe_b64encode(token)) == b"{}"


def test_an_altered_token_is_found_before():
    envelope = sealed(b"{}", 5)
    with pytest.raises(Unauthentic):
        SessionCipher.derive(OLD, "s").opener().verify(envelope.token[:-1] + bytes([envelope.token[-1] ^ 1]))


def test_it_is_neither_shown_nor_pickled():
    resealer = SessionCipher.derive(NEW, "s").resealer()
    assert "n" * 4 not in repr(resealer)
    with pytest.raises(TypeError):
        pickle.dumps(resealer)


def test_a_packed_row_is_what_pack_says_and_begins_like_its_label():
    token = SessionCipher.derive(NEW, "s").seal({"a": 1}, 5)
    row = pack_row(KID, token)
    parsed = parse_row(row)
    assert isinstance(parsed, Envelope)
    assert (parsed.kid, parsed.token) == (KID, token)
    assert pack(KID, token)["payload"] in row
    assert row.startswith(openings(KID))
    assert row.startswith(openings(None))
    assert not row.startswith(openings("name~0011223"))
    assert not row.startswith(openings(KID + "4"))
