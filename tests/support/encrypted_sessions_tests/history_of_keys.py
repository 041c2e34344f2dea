"""A store with a past: many sessions under three keys, some rows plain, of the SDK's class, altered, expired.

What is there, and what each command should make of it, follows from numbers alone, so that a parent
and its children agree on it. Everything is sealed and opened with the cryptography package itself.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from encrypted_sessions import Key, KeyRing
from encrypted_sessions_tests import suite_2_rows
from encrypted_sessions_tests.envelopes import kid_of, timestamp_of
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.sealed_rows import altered, message
from encrypted_sessions_tests.whole_rows import Found, Written

TTL: Final = 86_400
_OLD: Final = 20 * TTL

#: Of each hundred items so many are of that kind; the rest is "altered".
_SHARES: Final = (("oldest", 30), ("older", 25), ("active", 20), ("plain", 8), ("upstream", 4), ("expired", 10))

#: What becomes of an item of each kind: it is sealed again, or it goes. All others stay to the byte.
FATES: Final[Mapping[str, Mapping[str, str]]] = {
    "inventory": {},
    "verify": {},
    "reencrypt": dict.fromkeys(("oldest", "older", "upstream", "expired"), "resealed"),
    "encrypt": dict.fromkeys(("plain", "upstream"), "resealed"),
    "purge": {"expired": "gone"},
    "discard": {"altered": "gone"},
    "erase": {},
    "all at once": {**dict.fromkeys(("oldest", "older", "upstream", "plain"), "resealed"), "expired": "gone"},
}


def kind_of(session: int, number: int) -> str:
    """What an item is, without rhyme or reason, and each time the same."""
    place = (session * 7919 + number * 104_729) % 100
    for kind, share in _SHARES:
        if place < share:
            return kind
        place -= share
    return "altered"


@dataclass
class Keys:
    """Three keys, and the string of the SDK's class. `secrets` makes the same in another process.

    What they seal is of the suite `suite`, and lives for TTL in suite 2; rows of the SDK's class are of suite 1.
    """

    secrets: list[str] = field(default_factory=lambda: [Key.generate().reveal_base64() for _ in range(4)])
    suite: int = 1

    def __post_init__(self) -> None:
        from keyproviders import decode_key_text

        names = ("oldest", "older", "active", "string")
        keys = [Key(name, decode_key_text(text)) for name, text in zip(names, self.secrets, strict=True)]
        self.oldest, self.older, self.active, self._string = keys
        self.upstream_key = self.secrets[3]
        self._fernets: dict[tuple[str, str], Fernet] = {}

    def ring(self, active: str = "active") -> KeyRing:
        """A ring with all three, one of them active."""
        keys = {"oldest": self.oldest, "older": self.older, "active": self.active}
        return impatient_ring(ScriptedKeys(keys[active], *keys.values()))

    def _key(self, kid: str) -> Key:
        (key,) = [key for key in (self.oldest, self.older, self.active) if key.kid == kid] or [self._string]
        return key

    def _fernet(self, kid: str, session_id: str) -> Fernet:
        found = self._fernets.get((kid, session_id))
        if found is None:
            key = self._key(kid)
            salt = session_id.encode()
            derivation = HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"agents.session-store.hkdf.v1")
            found = Fernet(base64.urlsafe_b64encode(derivation.derive(key.secret)))
            self._fernets[kid, session_id] = found
        return found

    def sealed(self, kid: str, session_id: str, item: dict[str, Any], timestamp: int) -> str:
        """A stored row."""
        if self.suite == 2 and kid != "hkdf-v1":
            plaintext = json.dumps(item).encode()
            return json.dumps(suite_2_rows.sealed(self._key(kid), session_id, plaintext, timestamp, timestamp + TTL))
        token = self._fernet(kid, session_id).encrypt_at_time(json.dumps(item).encode(), timestamp)
        return json.dumps({"__enc__": 1, "v": 1, "kid": kid, "payload": token.decode()})

    def text_of(self, session_id: str, row: str) -> str | None:
        """The text of the item in a row, None if it does not open."""
        stored = json.loads(row)
        if "__enc__" not in stored:
            return str(stored["content"])
        if stored["v"] == 2:
            item = suite_2_rows.opened(self._key(stored["kid"]), session_id, row)
            return None if item is None else str(item["content"])
        try:
            plaintext = self._fernet(stored["kid"], session_id).decrypt(stored["payload"])
        except InvalidToken:
            return None
        return str(json.loads(plaintext)["content"])


@dataclass(frozen=True)
class Past:
    """The rows of some sessions with as many items each, written in turns."""

    keys: Keys
    sessions: int
    items: int
    now: int = field(default_factory=lambda: int(time.time()))

    def session_id(self, session: int) -> str:
        return f"user-{session}"

    def text(self, session: int, number: int) -> str:
        return f"{session}/{number}"

    def timestamp(self, session: int, number: int) -> int:
        """When an item was sealed: some time within the ttl, or long ago."""
        age = _OLD if kind_of(session, number) == "expired" else 7000
        return self.now - age - (session * 31 + number * 17) % 5000

    def created(self, number: int) -> int:
        """When a row was written: in the order of numbers, as stores need it that read by time."""
        return self.now - 6000 + number

    def row(self, session: int, number: int) -> Written:
        keys, session_id, kind = self.keys, self.session_id(session), kind_of(session, number)
        item = message(self.text(session, number))
        kids = {"older": keys.older.kid, "active": keys.active.kid, "upstream": "hkdf-v1"}
        if kind == "plain":
            row = json.dumps(item)
        else:
            kid = kids.get(kind, keys.oldest.kid)
            row = keys.sealed(kid, session_id, item, self.timestamp(session, number))
        if kind == "altered":
            row = suite_2_rows.altered(row) if keys.suite == 2 else json.dumps(altered(json.loads(row)))
        return Written(session_id, row, self.created(number))

    def rows(self) -> list[Written]:
        return [self.row(session, number) for number in range(self.items) for session in range(self.sessions)]

    def resealed(self, session: int, number: int, row: Found) -> bool:
        """Whether a row is this item under the active key, in its old age."""
        if "__enc__" not in json.loads(row.data) or kid_of(row.data) != self.keys.active.kid:
            return False
        if self.keys.text_of(self.session_id(session), row.data) != self.text(session, number):
            return False
        stamp = timestamp_of(row.data)
        if kind_of(session, number) != "plain":
            return stamp == self.timestamp(session, number)
        if row.created is None:  # Redis keeps no times
            return self.now <= stamp <= time.time()
        return stamp == self.created(number) == row.created


def compare(
    past: Past,
    before: Sequence[Written],
    found: Mapping[str, Sequence[Found]],
    command: str,
    *,
    erased: frozenset[str] = frozenset(),
    popped: frozenset[str] = frozenset(),
    complete: bool = True,
) -> tuple[list[str], dict[str, list[Found]]]:
    """Where a store is not what a command should have made of it; and what each session has beyond its past.

    Every row must be there once and in order. With `complete` False, a row may also be as it was: the
    command was killed. `popped` are the texts of items that an agent took out.
    """
    fates = FATES[command]
    wrong: list[str] = []
    place = dict.fromkeys(found, 0)
    for index, written in enumerate(before):
        number, session = divmod(index, past.sessions)
        session_id, kind = written.session_id, kind_of(session, number)
        rows = found.get(session_id, ())
        at = place.get(session_id, 0)
        row = rows[at] if at < len(rows) else None
        gone = session_id in erased or past.text(session, number) in popped
        fate = "gone" if gone else fates.get(kind, "same")
        as_it_was = row is not None and row.data == written.data
        done = row is not None and fate == "resealed" and past.resealed(session, number, row)
        if done or (as_it_was and (fate == "same" or not complete)):
            place[session_id] = at + 1
        elif fate != "gone":
            wrong.append(f"{session_id} {number} ({kind}) should be {fate}, found {row and row.data[:100]}")
    return wrong, {session_id: list(rows[place[session_id] :]) for session_id, rows in found.items()}
