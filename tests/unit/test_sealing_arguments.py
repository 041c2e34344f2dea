"""What `suite`, `oldest_suite`, `realm`, `pad` and `on_erased` may be, and what is said of anything else."""

from __future__ import annotations

from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions_tests.stores import PlainSession

UPSTREAM = "Zb8S0kYqQmTnX2cVfD4hJ6lPwR9tU1aE3gI5oK7sM_c="


def made(key: str | KeyRing, **options: Any) -> EncryptedSession:
    return EncryptedSession("s", PlainSession("s", []), key, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"suite": None},
        {"suite": 1},
        {"suite": 2},
        {"suite": 2, "oldest_suite": 2},
        {"suite": 1, "realm": "prod"},
        {"realm": "é" * 512},
        {"pad": True},
        {"on_erased": "raise"},
    ],
)
def test_what_may_be_given_with_a_ring(options: dict[str, Any]) -> None:
    made(KeyRing.ephemeral(), **options)
    EncryptedSession.wrap(PlainSession("s", []), KeyRing.ephemeral(), ttl=60, **options)


@pytest.mark.parametrize("options", [{}, {"suite": None}, {"suite": 1, "realm": "prod"}, {"pad": True}])
def test_what_may_be_given_with_a_string(options: dict[str, Any]) -> None:
    made(UPSTREAM, **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"suite": 0}, ValueError, "suite must be 1 or 2, not 0"),
        ({"suite": 3}, ValueError, "suite must be 1 or 2, not 3"),
        ({"suite": True}, TypeError, "suite must be 1 or 2, not bool"),
        ({"suite": "2"}, TypeError, "suite must be 1 or 2, not str"),
        ({"suite": 2.0}, TypeError, "suite must be 1 or 2, not float"),
        ({"oldest_suite": None}, TypeError, "oldest_suite must be 1 or 2, not None"),
        ({"oldest_suite": True}, TypeError, "oldest_suite must be 1 or 2, not bool"),
        ({"oldest_suite": 3, "suite": 2}, ValueError, "oldest_suite must be 1 or 2, not 3"),
        ({"oldest_suite": 2}, ValueError, "oldest_suite=2 is above suite=1"),
        ({"oldest_suite": 2, "suite": 1}, ValueError, "oldest_suite=2 is above suite=1"),
        ({"oldest_suite": 2, "suite": 2, "upstream_key": UPSTREAM}, ValueError, "upstream_key opens"),
        ({"realm": None}, TypeError, "realm must be a str, not None"),
        ({"realm": b"prod"}, TypeError, "realm must be a str, not bytes"),
        ({"realm": "a\0b"}, ValueError, "realm contains a NUL"),
        ({"realm": "a\ud800"}, ValueError, "realm contains a lone surrogate"),
        ({"realm": "é" * 512 + "x"}, ValueError, "realm must have at most 1,024 bytes of UTF-8, not 1,025"),
        ({"pad": 1}, TypeError, "pad must be True or False, not int"),
        ({"pad": None}, TypeError, "pad must be True or False, not None"),
        ({"on_erased": "ignore"}, ValueError, "on_erased must be one of 'skip', 'raise', not 'ignore'"),
        ({"on_erased": True}, TypeError, "on_erased must be one of 'skip', 'raise', not bool"),
    ],
)
def test_what_may_not_be_given(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        made(KeyRing.ephemeral(), **options)
    if "upstream_key" not in options:
        with pytest.raises(error, match=words):
            EncryptedSession.wrap(PlainSession("s", []), KeyRing.ephemeral(), ttl=60, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"suite": 2}, "suite=2 needs a KeyRing"),
        ({"suite": 2, "oldest_suite": 2}, "suite=2 needs a KeyRing"),
        ({"oldest_suite": 2}, "an encryption_key that is a string opens"),
    ],
)
def test_what_may_not_be_given_with_a_string(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        made(UPSTREAM, **options)
    assert UPSTREAM not in str(raised.value)


async def test_an_item_that_padding_makes_too_large_is_refused_and_nothing_is_written() -> None:
    rows: list[Any] = []
    item: Any = {"role": "user", "content": "x" * 2_680}
    for suite in (1, 2):
        store = PlainSession("s", rows)
        await EncryptedSession.wrap(store, KeyRing.ephemeral(), ttl=60, suite=suite, max_row_bytes=4_200).add_items(
            [item]
        )
        padding = EncryptedSession.wrap(store, KeyRing.ephemeral(), ttl=60, suite=suite, max_row_bytes=4_200, pad=True)
        with pytest.raises(ValueError, match="max_row_bytes"):
            await padding.add_items([item])
        assert len(rows) == suite
