"""Whatever a stored row is turned into, reading ends in an outcome: never in other content, never in an error."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encrypted_sessions import EncryptedSession, History, Key, KeyRing, UnreadableItemsError
from encrypted_sessions.core.envelope import pack
from encrypted_sessions.core.outcomes import EXPLANATIONS
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions_tests.json_values import same, values
from encrypted_sessions_tests.soak import examples
from encrypted_sessions_tests.stores import PlainSession
from keyproviders.local import StaticKeyProvider

KEY = Key("test", bytes(n * n % 251 for n in range(32)))
OLDER = Key("older", bytes(n * n % 251 for n in range(1, 33)))
UNKNOWN = Key("unknown", bytes(n * n % 251 for n in range(2, 34)))
NOW = 1_800_000_000
TTL = 600
ITEM = {"role": "user", "content": "what was said"}

CIPHER = FernetCipher.derive(KEY.secret, "session")
ENVELOPE = pack(KEY.kid, CIPHER.seal(ITEM, NOW))
TOKEN = base64.urlsafe_b64decode(ENVELOPE["payload"])

NAMES = {"ok", "expired", *EXPLANATIONS}


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: float(NOW))


def envelope(token: bytes, kid: object = KEY.kid) -> dict[str, Any]:
    return {**ENVELOPE, "kid": kid, "payload": base64.urlsafe_b64encode(token).decode("ascii")}


def session_over(store: Any, **options: Any) -> EncryptedSession:
    return EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(KEY, OLDER)), ttl=TTL, **options)


class Holding(PlainSession):
    """A store that hands over these objects as they are."""

    def __init__(self, *stored: Any) -> None:
        super().__init__("session", [])
        self.stored = list(stored)

    async def get_items(self, limit: int | None = None) -> Any:
        return list(self.stored if limit is None else self.stored[max(len(self.stored) - limit, 0) :])

    async def pop_item(self) -> Any:
        return self.stored.pop() if self.stored else None

    async def add_items(self, items: Any) -> None:
        self.stored += items


def read(stored: Any, **options: Any) -> History:
    """What a session finds in a store that holds this alone; every way of reading says the same."""

    async def look() -> History:
        store = Holding(stored)
        session = session_over(store, **options)
        history = await session.read()
        assert sum(history.outcomes.values()) == 1
        assert set(history.outcomes) <= NAMES
        raising = any(history.outcomes.get(name) for name in NAMES - {"ok", "expired", "expired_unverified", "erased"})
        if raising and not history.items:
            with pytest.raises(UnreadableItemsError):
                await session.get_items()
            with pytest.raises(UnreadableItemsError):
                await session.pop_item()
            assert store.stored == [stored]
        else:
            assert same(await session.get_items(), history.items)
        return history

    return asyncio.run(look())


def outcome(stored: Any) -> str:
    """The one outcome; "ok" only with the item that was sealed."""
    history = read(stored)
    (name,) = (name for name, count in history.outcomes.items() if count)
    assert history.items == ([ITEM] if name == "ok" else [])
    return name


# -- The token ------------------------------------------------------------------------------------


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 255))
@settings(max_examples=examples(300))
def test_a_token_with_a_byte_changed_is_never_ok(at: int, change: int) -> None:
    token = bytearray(TOKEN)
    token[at] ^= change
    assert outcome(envelope(bytes(token))) == ("malformed" if at == 0 else "unauthentic")


@given(st.integers(0, len(TOKEN)), st.binary(max_size=40), st.integers(0, 40))
def test_a_token_cut_or_extended_anywhere_is_never_ok(at: int, put: bytes, out: int) -> None:
    token = TOKEN[:at] + put + TOKEN[at + out :]
    if token != TOKEN:
        assert outcome(envelope(token)) in ("malformed", "unauthentic")


@given(st.binary(max_size=120))
def test_any_bytes_as_a_token_are_an_outcome(token: bytes) -> None:
    assert outcome(envelope(token)) in ("malformed", "unauthentic")
    assert outcome(envelope(b"\x80" + bytes(8) + token)) in ("malformed", "unauthentic")


def aliases() -> Iterator[str]:
    """Texts that a lenient decoder takes for the same token."""
    payload = ENVELOPE["payload"]
    yield from (payload + "\n", " " + payload, payload[:40] + "\n" + payload[40:], payload + "=", payload + "====")
    yield from (payload.replace("-", "+").replace("_", "/") + ("" if set("-_") & set(payload) else "+"), payload[:-1])
    yield from (
        payload + payload,
        payload.lower(),
        payload + "A" * 4,
        "=" + payload,
        payload[:4] + "====" + payload[4:],
    )
    for length in range(3):  # the spare bits of a last group
        token = CIPHER.seal({"a": "x" * length}, NOW)
        text = base64.urlsafe_b64encode(token).decode("ascii")
        if text.endswith("="):
            last = text.rstrip("=")[-1]
            alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            other = alphabet[alphabet.index(last) + 1]
            yield text.rstrip("=")[:-1] + other + "=" * text.count("=")


@pytest.mark.parametrize("payload", list(aliases()), ids=lambda _: "")
def test_a_payload_in_another_spelling_is_malformed(payload: str) -> None:
    assert outcome({**ENVELOPE, "payload": payload}) == "malformed"


@given(st.binary(max_size=60))
@example(b"")
@example(b"[]")
@example(b"{}")
@example(b'{"a":1}x')
@example(b'{"a":NaN}')
@example(b'{"a":1,"a":2}')
@example(b"\xff\xfe{\x00}\x00")
@example(b"{\x00}\x00")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":' * 200_000 + b"1" + b"}" * 200_000)
@example(b'{"n":' + b"9" * 5000 + b"}")
def test_any_bytes_that_are_sealed_are_an_item_or_malformed(plaintext: bytes) -> None:
    history = read(envelope(CIPHER._seal(plaintext, NOW, bytes(16))))
    try:
        item = json.loads(plaintext.decode("utf-8"))
    except (ValueError, RecursionError):
        item = None
    if isinstance(item, dict):
        assert repr(history.items) == repr([item])
        assert history.outcomes == {"ok": 1}
    else:
        assert history.outcomes == {"ok": 0, "malformed": 1}


@given(st.integers(0, 2**64 - 1))
@example(NOW)
@example(NOW - TTL)
@example(NOW - TTL - 1)
@example(NOW + 60)
@example(NOW + 61)
@example(0)
@example(2**64 - 1)
def test_the_time_of_a_token_decides_by_the_second(timestamp: int) -> None:
    expected = "expired" if timestamp + TTL < NOW else "not_yet_valid" if timestamp > NOW + 60 else "ok"
    assert outcome(envelope(CIPHER.seal(ITEM, timestamp))) == expected


# -- The envelope ---------------------------------------------------------------------------------


@given(st.sampled_from(["__enc__", "v", "kid", "payload"]), values())
@example("__enc__", True)  # equal to 1, and not 1
@example("__enc__", 1.0)
@example("v", True)
@example("v", 1.0)
@example("kid", [KEY.kid])
def test_a_field_of_any_other_value_is_never_other_content(field: str, value: Any) -> None:
    stored = {**ENVELOPE, field: value}
    unchanged = same(value, ENVELOPE[field])
    assert unchanged or outcome(stored) in {"malformed", "unsupported", "unknown_key", "unauthentic"}


@pytest.mark.parametrize("field", ["__enc__", "v", "kid", "payload"])
def test_an_envelope_without_one_of_its_fields_is_not_ok(field: str) -> None:
    stored = {name: part for name, part in ENVELOPE.items() if name != field}
    assert outcome(stored) == ("plaintext" if field == "__enc__" else "malformed")


@given(st.dictionaries(st.text(max_size=5).filter(lambda name: name not in ENVELOPE), values(), max_size=3))
def test_fields_added_change_nothing(more: dict[str, Any]) -> None:
    assert outcome({**more, **ENVELOPE}) == outcome({**ENVELOPE, **more}) == "ok"


@pytest.mark.parametrize("name", ["test", "older", "", "no-such-name"])
@pytest.mark.parametrize("key", [KEY, OLDER], ids=["active", "older"])
async def test_a_key_that_is_held_is_known_by_its_whole_kid_and_opens_only_what_it_sealed(name: str, key: Key) -> None:
    ring = KeyRing(StaticKeyProvider(KEY, OLDER))
    for held in (KEY, OLDER):
        await ring.get(held.kid)
    session = EncryptedSession.wrap(Holding({**ENVELOPE, "kid": f"{name}~{key.fingerprint}"}), ring, ttl=TTL)
    if f"{name}~{key.fingerprint}" not in ("", KEY.kid, OLDER.kid, f"~{key.fingerprint}"):
        expected = {"ok": 0, "unknown_key": 1}  # a name that never was
    else:
        expected = {"ok": 1} if key is KEY else {"ok": 0, "unauthentic": 1}
    assert (await session.read()).outcomes == expected


@pytest.mark.parametrize(
    "kid", [OLDER.kid, f"test~{OLDER.fingerprint}", f"~{OLDER.fingerprint}", f"older~{KEY.fingerprint}"]
)
def test_under_the_kid_of_another_key_nothing_is_ok(kid: str) -> None:
    token = FernetCipher.derive(UNKNOWN.secret, "session").seal(ITEM, NOW)
    assert outcome(envelope(token, kid)) in ("unauthentic", "unknown_key")


@pytest.mark.parametrize(
    "kid", [UNKNOWN.kid, "", "~", "hkdf-v1", "a" * 10_000, "test~", f"test~{KEY.fingerprint}\n", "\ud800~01234567"]
)
def test_a_kid_that_no_key_has_is_unknown(kid: str) -> None:
    assert outcome({**ENVELOPE, "kid": kid}) == "unknown_key"
    assert outcome(envelope(CIPHER.seal(ITEM, NOW - TTL - 1), kid)) == "expired_unverified"


@pytest.mark.parametrize(
    ("key", "session_id"), [(KEY, "another"), (OLDER, "session"), (UNKNOWN, "session"), (KEY, "session ")]
)
def test_an_envelope_of_another_session_or_key_is_unauthentic(key: Key, session_id: str) -> None:
    token = FernetCipher.derive(key.secret, session_id).seal(ITEM, NOW)
    assert outcome(envelope(token)) == "unauthentic"
    assert outcome(envelope(FernetCipher.derive(key.secret, session_id).seal(ITEM, 0))) == "unauthentic"


@given(values())
def test_any_json_as_a_stored_item_is_an_outcome(stored: Any) -> None:
    history = read(stored)
    if isinstance(stored, dict) and "__enc__" not in stored:
        assert history.outcomes == {"ok": 0, "plaintext": 1}
        assert same(read(stored, plaintext="read").items, [stored])
    elif not isinstance(stored, str):  # a store may hand over JSON text, which is read as that
        assert history.items == []


# -- Rows of a file, byte for byte ----------------------------------------------------------------


@contextlib.contextmanager
def a_file_of_rows() -> Iterator[tuple[EncryptedSession, Callable[[Any], None]]]:
    """A session over SQLite, and a way of putting one row of any type in place of all rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sessions.db")
        store = SQLiteSession("session", path)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO agent_sessions (session_id) VALUES ('session')")

            def put(row: Any) -> None:
                connection.execute("DELETE FROM agent_messages")
                text = isinstance(row, bytes) and b"\0" not in row
                cast = "CAST(? AS TEXT)" if text else "?"
                connection.execute(
                    f"INSERT INTO agent_messages (session_id, message_data) VALUES ('session', {cast})",  # noqa: S608 - no input
                    (row,),
                )

            try:
                yield session_over(store), put
            finally:
                store.close()


def rows() -> st.SearchStrategy[Any]:
    good = json.dumps(ENVELOPE).encode()
    exchanged = st.builds(
        lambda at, put, out: good[:at] + put + good[at + out :],
        st.integers(0, len(good)),
        st.binary(max_size=3),
        st.integers(0, 4),
    )
    return (
        exchanged
        | st.binary(max_size=60)
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False)
        | st.just(good)
    )


def test_any_row_of_a_file_is_an_outcome() -> None:
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop), a_file_of_rows() as (session, put):

        @settings(max_examples=examples(200))
        @given(rows())
        def is_an_outcome(row: Any) -> None:
            put(row)
            history = loop.run_until_complete(session.read())
            assert sum(history.outcomes.values()) == 1
            assert set(history.outcomes) <= NAMES
            assert history.items in ([], [ITEM])
            assert bool(history.items) == (history.outcomes["ok"] == 1)
            if history.outcomes["ok"]:
                assert json.loads(row)["payload"] == ENVELOPE["payload"]

        is_an_outcome()
        loop.run_until_complete(loop.shutdown_default_executor())
