"""What reading opens in one call for each row is what anything else finds out about it, row for row."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.core import exact_json
from encrypted_sessions.core.cipher import NotAnItem, SessionCipher, Unauthentic
from encrypted_sessions.core.envelope import UPSTREAM_KID, Envelope, label_of, parse_row
from encrypted_sessions.core.suites import aes_gcm_v2, fernet_v1
from encrypted_sessions.core.suites.aes_gcm_v2 import AesGcmEnvelope
from encrypted_sessions.history.classified import GROUP, ReadPolicy, claimed
from encrypted_sessions.history.plainly_ok import plainly_in_time
from encrypted_sessions.history.results import Classification
from encrypted_sessions.stores.rows import TOO_LARGE, Row
from encrypted_sessions_tests.soak import Seed
from encrypted_sessions_tests.stores import PlainSession
from encrypted_sessions_tests.suite_2 import seal_row
from keyproviders.local import StaticKeyProvider

NOW, TTL = 1_800_000_000, 600
ACTIVE = Key("active", sha256(b"active").digest())
#: A key that had to stop writing before the newest rows that name it.
FORMER = Key("former", sha256(b"former").digest(), written_until=datetime.fromtimestamp(NOW - 200, tz=timezone.utc))
GONE = Key("gone", sha256(b"gone").digest())
ITEM = {"role": "user", "content": "what was said"}


def sealed(
    suite: int = 2,
    key: Key = ACTIVE,
    age: int = 0,
    end: int | None = NOW + TTL,
    *,
    session: str = "s",
    realm: str = "r",
) -> dict[str, Any]:
    cipher = SessionCipher(key.secret, session, key.kid, realm, suite)
    return cipher.seal(ITEM, NOW - age, end)


def text(stored: Any, separators: tuple[str, str] = (", ", ": ")) -> bytes:
    return json.dumps(stored, separators=separators).encode()


@pytest.fixture(params=[True, False], ids=["pydantic_core", "without it"])
def _installed(request: pytest.FixtureRequest) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if not request.param:
            for module in (exact_json, fernet_v1, aes_gcm_v2):
                stack.enter_context(mock.patch.object(module, "accelerator", return_value=None))
        yield


def sealed_again() -> bytes:
    """A row of suite 2 that `reencrypt` has moved to the active key: with an id of its own after the nonce."""
    found = parse_row(text(sealed(key=FORMER)))
    assert isinstance(found, Envelope)
    opener = SessionCipher(FORMER.secret, "s", FORMER.kid, "r").opener(2)
    return SessionCipher(ACTIVE.secret, "s", ACTIVE.kid, "r", 2).reseal_row(found, opener).encode()


def linked() -> bytes:
    """A row as a later release writes them: with refs and parents after the nonce, and an id of its own."""
    own_id, refs, parents = b"i" * 12, bytes(8) + b"r" * 8, b"p" * 13
    links: dict[str, Any] = {"flags": 1, "more": own_id + refs + parents, "counts": (2, 1), "link": b"l" * 15}
    item = json.dumps(ITEM).encode()
    return text(seal_row(item, ACTIVE.kid, ACTIVE.secret, "s", NOW, NOW + TTL, realm="r", **links))


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("suite", "make"),
    [(1, lambda: text(sealed(1))), (2, lambda: text(sealed())), (2, sealed_again), (2, linked)],
    ids=["suite 1", "suite 2", "sealed again", "linked"],
)
def test_a_reader_gives_what_parsing_and_opening_give_whatever_was_changed(
    suite: int, make: Callable[[], bytes], seed: Seed
) -> None:
    chance = random.Random(seed)
    opener = SessionCipher(ACTIVE.secret, "s", ACTIVE.kid, "r").opener(suite)
    read = opener.reader(ACTIVE.kid, lambda envelope: envelope.timestamp == NOW)
    row = make()
    body = len(label_of(row)) - 1
    for number in range(2_000):
        changed = bytearray(row)
        for _ in range(number % 3):  # also none: after what was refused, what is good opens
            at = chance.randrange(body, len(row) - 1)
            changed[at : at + chance.randrange(2)] = bytes([chance.choice(b'AQg-_+/=\\"u \n\x00\xff')])
        expected = None
        found = parse_row(bytes(changed))
        if isinstance(found, Envelope) and changed.endswith(b'"}') and changed[body] == ord('"'):
            with contextlib.suppress(Unauthentic, NotAnItem):
                expected = opener.open(found) if found.timestamp == NOW else None
        quoted = bytes(changed[body:-1])
        if quoted[:1] == quoted[-1:] == b'"':
            got = read(quoted)
            # A text with escapes can be right, and is left to a parser of JSON.
            assert got == expected or (got is None and b"\\" in quoted), changed
    assert read(row[body:-1]) == ITEM


@dataclass
class Found:
    """What is compared of a classification."""

    outcome: str
    kid: str | None
    item: object

    @classmethod
    def of(cls, one: Classification) -> Found:
        return cls(one.outcome, one.kid, one.item)


#: What is ok and has no common row's text; and suite 1 where it is outdated.
NOT_AT_ONCE = {"ok, as text", "ok, as an object", "ok, of another order", "ok, in suite 1"}


class Noted:
    """What somebody who takes note was told of rows."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.opened = Counter[str]()

    def __call__(self, rows: Sequence[object], opened: Mapping[str, int] = MappingProxyType({}), /) -> None:
        self.rows += rows
        self.opened.update(opened)


def kinds() -> dict[str, object]:
    """Rows by what they are. Most have a label that a good one has, too."""
    good = sealed()
    body = good["p"]
    flipped = {**good, "p": body[:-4] + ("AAAA" if body[-4:] != "AAAA" else "BBBB")}
    # The same first 60 bytes as good rows have, and a nonce of which one bit is another.
    nonce = {**good, "p": body[:84] + ("A" if body[84] != "A" else "B") + body[85:]}
    no_item = seal_row(b"[1]", ACTIVE.kid, ACTIVE.secret, "s", NOW, NOW + TTL, realm="r", flags=2)
    return {
        "ok": text(good),
        "ok, compact": text(good, (",", ":")),
        "ok, as text": text(good).decode(),
        "ok, as an object": good,
        "ok, in suite 1": text(sealed(1)),
        "ok, of the former key": text(sealed(key=FORMER, age=300)),
        "ok, with no end": text(sealed(end=None)),
        "ok, sealed again": sealed_again(),
        "ok, linked": linked(),
        "ok, of another order": text(dict(reversed(good.items()))),
        "expired by the ttl": text(sealed(age=TTL + 1)),
        "not expired by a second": text(sealed(age=TTL)),
        "expired by its writer's word": text(sealed(end=NOW - 1)),
        "in time by a second": text(sealed(end=NOW)),
        "of the future": text(sealed(age=-61)),
        "of a future that is near": text(sealed(age=-60)),
        "of the former key, late": text(sealed(key=FORMER, age=100)),
        "of a key that is gone": text(sealed(key=GONE)),
        "of a key that is gone, old": text(sealed(key=GONE, age=TTL + 1)),
        "of another session": text(sealed(session="another")),
        "of another realm": text(sealed(realm="another")),
        "of another key": text({**sealed(key=GONE), "kid": ACTIVE.kid}),
        "of another epoch's key": text({**good, "p": base64_with_time(body)}),
        "altered": text(flipped),
        "with another nonce": text(nonce),
        "no item": text(no_item),
        "cut": text({**good, "p": body[:80]}),
        "cut to nothing": text({**good, "p": ""}),
        "in no base64": text({**good, "p": "-" + body[1:]}),
        "with two kids": text(good).replace(b', "p"', b', "kid": "b", "p"'),
        "with two bodies": text(good).replace(b', "p"', b', "p": "", "p"'),
        "with more after it": text(good) + b" ",
        "no JSON": text(good)[:-1],
        "of a suite to come": text({**good, "v": 3}),
        "plaintext": text(ITEM),
        "plaintext that looks like an envelope": b'{"__enc__": "x"}',
        "nothing": b"",
        "too large": TOO_LARGE,
        "larger than it may be": text({**good, "p": "A" * 4_096}),
        "NULL": None,
    }


def base64_with_time(body: str) -> str:
    """The created of another day, which nobody authenticated."""
    return body[:4] + "B" + body[5:]


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("oldest_suite", [1, 2])
async def test_rows_are_found_to_be_the_same_in_any_order(
    oldest_suite: int, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: float(NOW))
    chance = random.Random(seed)
    ring = KeyRing(StaticKeyProvider(ACTIVE, FORMER))
    session = EncryptedSession.wrap(
        PlainSession("s", []), ring, ttl=TTL, realm="r", suite=2, oldest_suite=oldest_suite, max_row_bytes=4_096
    )
    rows = [Row(place, data) for place, data in enumerate(kinds().values())]
    names = list(kinds())
    history, opened = session._sealed, 0
    # From then on the keys are held, and no row of theirs has to be well-formed for the others to be opened at once.
    await history.classifier().classify(rows)
    for _ in range(15):
        chosen = chance.choices(
            rows, [8 if name.startswith("ok") else 1 for name in names], k=chance.choice((1, 2, GROUP, 3 * GROUP))
        )
        exactly, reading = history.classifier(), history.reading_classifier(history.policy())
        for begin in range(0, len(chosen), GROUP):
            group = chosen[begin : begin + GROUP]
            expected = [Found.of(one) for one in await exactly.classify(group)]
            found = await reading.read(group)
            opened += sum(type(one) is dict for one in found)
            # Who takes note has the same, and how many of the items were under which key.
            noted = Noted()
            reading._judged = noted
            assert await reading.read(group) == noted.rows
            reading._judged = None
            for these in (found, noted.rows):
                as_found = [
                    Found("ok", exact.kid, one) if isinstance(one, dict) else Found.of(one)
                    for one, exact in zip(these, expected, strict=True)
                ]
                assert as_found == expected, [names[row.id] for row in group]
            items = [exact for one, exact in zip(noted.rows, expected, strict=True) if isinstance(one, dict)]
            assert noted.opened == Counter(exact.kid for exact in items)
            left = {names[row.id] for row, one in zip(group, found, strict=True) if type(one) is not dict}
            assert not left & {name for name in names if name.startswith("ok")} - NOT_AT_ONCE
    assert opened > 50, "rows that are plainly ok have been opened in one call each"


def test_what_is_plainly_in_time_is_ok_by_the_questions_in_their_order(seed: Seed) -> None:
    chance = random.Random(seed)
    moments = [NOW + each for each in (-TTL - 61, -TTL - 1, -TTL, -200, -61, -60, -1, 0, 1, 60, 61, TTL)]
    met = set()
    for _ in range(5_000):
        policy = ReadPolicy(
            NOW,
            chance.choice((None, 1, TTL)),
            read_plaintext=False,
            upstream_until=chance.choice((None, *moments, NOW - 0.5)),
            tells_expired=chance.random() < 0.8,
            tells_late=chance.random() < 0.8,
        )
        kid = chance.choice((ACTIVE.kid, UPSTREAM_KID))
        opener = SessionCipher(ACTIVE.secret, "s", kid).opener(2)
        opener.written_until = chance.choice((None, *moments, NOW - 60.5))
        found = AesGcmEnvelope(kid, b"", chance.choice(moments), chance.choice((0, 2**40 - 1, *moments)), 72)
        outcome = claimed(found, opener, policy)
        assert plainly_in_time(opener, policy, kid)(found) == (outcome == "ok"), outcome
        met.add(outcome)
    assert met == {"ok", "expired", "not_yet_valid", "late_key", "unauthentic"}
