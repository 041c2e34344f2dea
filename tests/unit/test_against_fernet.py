"""The core beside `cryptography.fernet`: what one opens the other opens, and what one refuses the other refuses.

What the core refuses on purpose beyond Fernet is named in `refused_on_purpose`: a token in another spelling of
base64 than the canonical one. What it asks beyond Fernet, whether the content is a JSON object, comes after
`decrypt`, which is what is compared here.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encrypted_sessions.core.cipher import NotAnItem, Opener, SessionCipher, Unauthentic
from encrypted_sessions.core.envelope import Envelope, parse, parse_row
from encrypted_sessions.core.suites.fernet_v1 import derive_session_key
from encrypted_sessions.history.classified import Classifier, ReadPolicy
from encrypted_sessions.stores import Row
from encrypted_sessions_tests.soak import Rounds, Seed, examples

KID = "name~00112233"
SECRETS = (b"a" * 32, b"b" * 32)
SESSIONS = ("one", "another")
KEYS = tuple((secret, session) for secret in SECRETS for session in SESSIONS)

THREADS = 6
TOKENS = 3_600
AT_LEAST = 300
"""In every run, which takes a fraction of a second."""


class Side:
    """One key on both sides: the core with contexts that are kept, and Fernet."""

    def __init__(self, cipher: SessionCipher, secret: bytes, session_id: str) -> None:
        self.cipher = cipher
        self.opener: Opener = cipher.opener(1)
        self.resealing = SessionCipher(secret, session_id, KID)
        self.signing_key = derive_session_key(secret, session_id)[:16]
        self.fernet = Fernet(base64.urlsafe_b64encode(derive_session_key(secret, session_id)))

    def core_gives(self, text: str) -> bytes | None:
        found = parse(envelope(text))
        if not isinstance(found, Envelope):
            return None
        try:
            return self.opener.decrypt(found)
        except (Unauthentic, NotAnItem):
            return None

    def fernet_gives(self, text: str) -> bytes | None:
        try:
            return self.fernet.decrypt(text)
        except InvalidToken:
            return None


def envelope(text: str) -> dict[str, Any]:
    return {"__enc__": 1, "v": 1, "kid": KID, "payload": text}


def refused_on_purpose(text: str) -> bool:
    """Fernet takes any spelling that decodes; here each token has one."""
    return base64.urlsafe_b64encode(base64.urlsafe_b64decode(text)).decode("ascii") != text


def check_both(side: Side, text: str) -> bool:
    """Whether both open it; fails where only one does, or they give different bytes."""
    mine, fernets = side.core_gives(text), side.fernet_gives(text)
    if mine is None and fernets is not None:
        assert refused_on_purpose(text), text
        return False
    assert mine == fernets, text
    return mine is not None


# -- Tokens, and what may become of them ----------------------------------------------------------


def sealed_by_any(side: Side, other: Side, chance: random.Random) -> str:
    """A good token of this key: sealed by the core, by Fernet, or by the core from what another key sealed."""
    content = "x" * chance.randrange(80)
    timestamp = chance.choice([0, 1, 1_800_000_000, 2**63])
    how = chance.randrange(3)
    if how == 0:
        sealed: str = side.cipher.seal({"content": content}, timestamp)["payload"]
        return sealed
    plaintext = f'{{"content":"{content}"}}'.encode()
    if how == 1:
        return side.fernet.encrypt_at_time(plaintext, timestamp).decode("ascii")
    former = parse(envelope(other.fernet.encrypt_at_time(plaintext, timestamp).decode("ascii")))
    assert isinstance(former, Envelope)
    row = parse_row(side.resealing.reseal_row(former, other.opener))
    assert isinstance(row, Envelope)
    return in_base64(row.body)


def in_base64(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).decode("ascii")


def signed(side: Side, unsigned: bytes) -> str:
    """What only somebody with the key can make: odd bytes under a good signature."""
    signature = HMAC(side.signing_key, hashes.SHA256())
    signature.update(unsigned)
    return in_base64(unsigned + signature.finalize())


def some_bytes(chance: random.Random, most: int) -> bytes:
    return chance.randbytes(chance.randrange(most + 1))


def damaged(text: str, side: Side, chance: random.Random) -> str:
    """The token after one of the things that may happen to it; one in eight stays as it is."""
    token = bytearray(base64.urlsafe_b64decode(text))
    at = chance.randrange(len(token))
    unsigned = bytes(token[:-32])
    cases: tuple[Callable[[], str], ...] = (
        lambda: text,
        lambda: in_base64(bytes([*token[:at], token[at] ^ 1 << chance.randrange(8), *token[at + 1 :]])),
        lambda: in_base64(bytes(token[:at] + token[at + chance.randrange(40) :])),
        lambda: in_base64(bytes(token[:at]) + some_bytes(chance, 40) + bytes(token[at:])),
        lambda: in_base64(bytes([chance.randrange(256), *token[1:]])),
        # Well signed, and otherwise not as a token has to be.
        lambda: signed(side, bytes([chance.randrange(256)]) + unsigned[1:]),
        lambda: signed(side, unsigned[: chance.randrange(len(unsigned))]),
        lambda: signed(side, unsigned[:25] + chance.randbytes(16 * chance.randrange(4))),
        # The same bytes in another spelling, or nearly.
        lambda: respelled(text, chance),
    )
    return chance.choice(cases)()


def respelled(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text))
    put = chance.choice([*"=+/-_ \n*A", "==", ""])
    return text[:at] + put + text[at + chance.randrange(2) :]


class Contexts:
    """Sides of a thread's own for each key, over ciphers that all threads share."""

    def __init__(self, ciphers: dict[tuple[bytes, str], SessionCipher]) -> None:
        self.sides = [Side(ciphers[key], *key) for key in KEYS]

    def round(self, chance: random.Random) -> bool:
        """One token, whole or damaged, opened with a key, mostly its own; whether both opened it."""
        one, other = chance.sample(self.sides, 2)
        text = damaged(sealed_by_any(one, other, chance), one, chance)
        return check_both(other if chance.random() < 0.1 else one, text)


def shared_ciphers() -> dict[tuple[bytes, str], SessionCipher]:
    return {key: SessionCipher(*key, KID) for key in KEYS}


@contextmanager
def threads_that_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("_", ["few", pytest.param("all", marks=pytest.mark.soak)])
def test_what_fernet_opens_the_core_opens_and_what_one_refuses_the_other_does_too(
    _: str, rounds: Rounds, seed: Seed
) -> None:
    """Six threads, each with openers that it keeps through all damage, over ciphers that they share."""
    tokens = max(rounds.of(TOKENS), AT_LEAST)
    ciphers = shared_ciphers()

    def work(thread: int) -> list[bool]:
        chance = random.Random(seed + thread)
        contexts = Contexts(ciphers)
        return [contexts.round(chance) for _ in range(tokens // THREADS)]

    with threads_that_take_turns_often(), ThreadPoolExecutor(THREADS) as pool:
        opened = [one for each in pool.map(work, range(THREADS)) for one in each]
    assert len(opened) == tokens
    assert tokens // 20 < sum(opened) < tokens // 2  # enough of both


@settings(max_examples=examples(200))
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_openers_that_were_kept_through_any_damage_give_what_fernet_gives(chance: random.Random, many: int) -> None:
    contexts = Contexts(shared_ciphers())
    for _ in range(many):
        contexts.round(chance)
    good, other = contexts.sides[:2]
    assert check_both(good, sealed_by_any(good, other, chance))


def test_the_one_thing_that_the_core_refuses_on_purpose_is_another_spelling() -> None:
    side = Contexts(shared_ciphers()).sides[0]
    text = side.fernet.encrypt_at_time(b"{}", 0).decode("ascii")
    assert check_both(side, text)
    last = text.rstrip("=")
    assert len(text) - len(last) == 2  # so that its last group has four spare bits
    for odd in (text + "\n", " " + text, text[:40] + "*" + text[40:], last[:-1] + chr(ord(last[-1]) + 1) + "=="):
        assert side.fernet_gives(odd) == b"{}"
        assert side.core_gives(odd) is None
        assert refused_on_purpose(odd)


# -- Time -----------------------------------------------------------------------------------------


class OneOpener:
    """One key for every row."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    async def prepare(self, envelopes: Iterable[Envelope]) -> None:
        """Nobody has to be asked."""

    def opener(self, envelope: Envelope, row: Row) -> Opener:
        return self._opener


NOW = 1_800_000_000


@given(st.integers(NOW - 1_000, NOW + 1_000), st.integers(1, 900))
@example(NOW - 600, 600)
@example(NOW - 601, 600)
@example(NOW + 60, 600)
@example(NOW + 61, 600)
def test_time_is_judged_as_fernet_judges_it(timestamp: int, ttl: int) -> None:
    side = Side(SessionCipher(SECRETS[0], "one", KID), SECRETS[0], "one")
    sealed = side.cipher.seal({"a": 1}, timestamp)
    try:
        side.fernet.decrypt_at_time(sealed["payload"], ttl, NOW)
    except InvalidToken:
        expected = {"expired", "not_yet_valid"}
    else:
        expected = {"ok"}
    classifier: Classifier[Any] = Classifier(OneOpener(side.opener), lambda: ReadPolicy(NOW, ttl, read_plaintext=False))
    (found,) = asyncio.run(classifier.classify([Row(None, sealed)]))
    assert found.outcome in expected


def test_every_token_of_a_process_has_an_iv_of_its_own_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: asked.append(count) or real(count))
    cipher = SessionCipher(SECRETS[0], "one", KID)
    tokens = [base64.urlsafe_b64decode(cipher.seal({"a": 1}, 0)["payload"]) for _ in range(50)]
    assert asked == [16] * 50
    assert len({token[9:25] for token in tokens}) == 50
