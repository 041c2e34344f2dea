"""Every argument of every public name is checked where it enters.

An error names the argument, what was given (never a secret) and what is expected; a wrong type is a
TypeError and a wrong value a ValueError.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.memory import OpenAIResponsesCompactionSession, SessionSettings

import encrypted_sessions
import keyproviders
import keyproviders.local
from encrypted_sessions import (
    EncryptedSession,
    InvalidKeyError,
    Key,
    KeyRing,
    KeyRings,
    KeyUnavailableError,
    ProviderConfigError,
    maintenance,
)
from encrypted_sessions.errors import StoreConfigError
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import (
    CachePolicy,
    RetryPolicy,
    decode_key_text,
    looks_like_provider_url,
    open_keyset,
    open_provider,
    parse_kid,
    redact_frames,
    weakness_of,
)
from keyproviders.local import EnvKeyProvider, FileKeyProvider, StaticKeyProvider

KEY_TEXT = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
KEY = Key("test", bytes(n * n % 251 for n in range(32)))


def store() -> PlainSession:
    return PlainSession("session", [])


def ring() -> KeyRing:
    return KeyRing(StaticKeyProvider(KEY))


def session(**options: Any) -> EncryptedSession:
    """A session that is right but for these arguments."""
    arguments = {"session_id": "session", "underlying_session": store(), "encryption_key": ring(), **options}
    return EncryptedSession(**arguments)


def wrapped(**options: Any) -> EncryptedSession:
    arguments = {"underlying_session": store(), "keys": ring(), "ttl": 60, **options}
    return EncryptedSession.wrap(**arguments)


class WithoutPop:
    session_id = "session"

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return []

    async def add_items(self, items: list[Any]) -> None: ...

    async def clear_session(self) -> None: ...


class WithoutId(WithoutPop):
    session_id = property()  # type: ignore[assignment]  # hasattr says no

    async def pop_item(self) -> None: ...


class NotCallable(WithoutPop):
    pop_item = "no method"


class Around:
    """A session that wraps another, as the SDK's own wrappers do."""

    def __init__(self, underlying_session: Any) -> None:
        self.session_id = "session"
        self.underlying_session = underlying_session

    def __getattr__(self, name: str) -> Any:
        return getattr(store(), name)


def compacting() -> Any:
    return OpenAIResponsesCompactionSession("session", store())


Wrong = tuple[Callable[[], Any], type[Exception], list[str]]


def wrong_session_ids() -> list[Wrong]:
    cases: list[Wrong] = [
        (lambda: session(session_id=""), ValueError, ["session_id", "empty"]),
        (lambda: session(session_id="a\0b"), ValueError, ["session_id", "NUL"]),
        (lambda: session(session_id="a\ud800b"), ValueError, ["session_id", "lone surrogate"]),
    ]
    for value in (None, 5, b"session", ["session"], True):
        kind = type(value).__name__
        cases.append((partial(session, session_id=value), TypeError, ["session_id", "str", kind]))
    return cases


def wrong_ttls() -> list[Wrong]:
    cases: list[Wrong] = []
    for make in (session, wrapped, set_ttl):
        cases += [(partial(make, ttl=value), ValueError, ["ttl", "positive", str(value)]) for value in (0, -1, -600)]
        for value in ("600", True, False, 600.0, float("nan"), timedelta(seconds=600), [600], b"600"):
            kind = type(value).__name__
            cases.append((partial(make, ttl=value), TypeError, ["ttl", "int of seconds", kind]))
    return cases


def set_ttl(ttl: Any) -> None:
    wrapped().ttl = ttl


def wrong_keys() -> list[Wrong]:
    cases: list[Wrong] = [
        (lambda: session(encryption_key=""), ValueError, ["encryption_key", "empty", "non-empty str or a KeyRing"]),
        (lambda: session(encryption_key="\ud800"), ValueError, ["encryption_key", "lone surrogate"]),
        (lambda: session(upstream_key=""), ValueError, ["upstream_key", "empty", "non-empty str"]),
        (lambda: wrapped(upstream_key="\ud800"), ValueError, ["upstream_key", "lone surrogate"]),
        (lambda: session(encryption_key=KEY_TEXT, upstream_key=KEY_TEXT), ValueError, ["upstream_key", "KeyRing"]),
        (lambda: wrapped(keys=KEY_TEXT), TypeError, ["keys", "KeyRing", "str", "KeyRing.from_url('env:"]),
        (lambda: wrapped(keys=None), TypeError, ["keys", "KeyRing", "None"]),
        (lambda: wrapped(keys=KeyRing), TypeError, ["keys", "KeyRing", "the class KeyRing"]),
    ]
    for value in (None, KEY_TEXT.encode(), KEY, StaticKeyProvider(KEY), 5, [KEY_TEXT]):
        kind = "None" if value is None else type(value).__name__
        cases.append((partial(session, encryption_key=value), TypeError, ["encryption_key", "str or a KeyRing", kind]))
        if value is not None:
            cases.append((partial(wrapped, upstream_key=value), TypeError, ["upstream_key", "str", kind]))
    for url in (
        "env:SESSION_KEYS",
        "ENV:X",
        " file:/etc/keys",
        "vault-kv://host/x",
        "aws-kms:alias/x",
        "vault-transit:",
    ):
        scheme = url.strip().partition(":")[0]
        words = [scheme, "URL", "KeyRing.from_url("]
        cases.append((partial(session, encryption_key=url), ValueError, ["encryption_key", *words]))
        cases.append((partial(wrapped, upstream_key=url), ValueError, ["upstream_key", *words]))
    return cases


def wrong_choices() -> list[Wrong]:
    cases: list[Wrong] = []
    for argument, words in (("on_unreadable", ["'raise'", "'skip'"]), ("plaintext", ["'raise'", "'read'"])):
        for make in (session, wrapped):
            for kind, values in (
                (TypeError, [None, True, 1, b"raise", ["raise"]]),
                (ValueError, ["", "ignore", "RAISE", "x" * 1000]),
            ):
                cases += [(partial(make, **{argument: value}), kind, [argument, *words]) for value in values]
    return cases


def wrong_stores() -> list[Wrong]:
    cases: list[Wrong] = []
    for make in (session, wrapped):
        for value, words in (
            (None, ["None", "pop_item"]),
            (PlainSession, ["the class PlainSession"]),
            (SQLiteSession, ["the class SQLiteSession"]),
            ("session", ["str"]),
            (WithoutPop(), ["WithoutPop", "has no pop_item"]),
            (NotCallable(), ["NotCallable", "has no pop_item"]),
            (WithoutId(), ["WithoutId", "has no session_id"]),
            (object(), ["object", "get_items, add_items, pop_item, clear_session"]),
        ):
            expected = ["underlying_session", "must be a session", *words]
            cases.append((partial(make, underlying_session=value), TypeError, expected))
        for value in (Around(compacting()), Around(Around(compacting()))):
            expected = ["OpenAIResponsesCompactionSession(session_id, EncryptedSession(session_id, store", "compacts"]
            cases.append((partial(make, underlying_session=value), ValueError, expected))
    return cases


def wrong_bounds() -> list[Wrong]:
    cases: list[Wrong] = [
        (lambda: session(max_scan_items=0), ValueError, ["max_scan_items", "positive", "0"]),
        (lambda: session(max_scan_items=-5), ValueError, ["max_scan_items", "positive", "-5"]),
    ]
    for value in ("5", True, 5.0, [5]):
        kind = type(value).__name__
        cases.append((partial(session, max_scan_items=value), TypeError, ["max_scan_items", "int", kind]))
    for make in (session, wrapped):
        for value in ("5", True, False, 5.0, None, [5]):
            kind = "None" if value is None else type(value).__name__
            cases.append((partial(make, purge_on_add=value), TypeError, ["purge_on_add", "int", kind]))
        cases.append((partial(make, purge_on_add=-1), ValueError, ["purge_on_add", "0 or more", "-1"]))
        cases.append((partial(make, purge_on_add=1), ValueError, ["purge_on_add", "PlainSession", "SECURITY.md"]))
    return cases


def wrong_key_material() -> list[Wrong]:
    now = datetime(2026, 1, 1)  # noqa: DTZ001 - what is tested
    here = timezone(timedelta(hours=1))
    return [
        (lambda: Key("a", b""), InvalidKeyError, ["secret", "32 bytes", "0 were given"]),
        (lambda: Key("a", bytes(31)), InvalidKeyError, ["secret", "32 bytes", "31 were given"]),
        (lambda: Key("a", bytes(64)), InvalidKeyError, ["secret", "32 bytes", "64 were given"]),
        (lambda: Key("a", KEY_TEXT), TypeError, ["secret", "bytes", "str", "decode_key_text"]),
        (lambda: Key("a", bytearray(32)), TypeError, ["secret", "bytes", "bytearray"]),
        (lambda: Key("a", None), TypeError, ["secret", "bytes", "NoneType"]),
        (lambda: Key("", bytes(32)), ValueError, ["name", "1 to 119 characters", "0 characters"]),
        (lambda: Key("a~b", bytes(32)), ValueError, ["name", "A-Z a-z 0-9 . _ -"]),
        (lambda: Key("a" * 120, bytes(32)), ValueError, ["name", "120 characters"]),
        (lambda: Key(5, bytes(32)), TypeError, ["name", "str or None", "int"]),
        (lambda: Key.generate(b"a"), TypeError, ["name", "str or None", "bytes"]),
        (lambda: Key.generate("a b"), ValueError, ["name", "3 characters"]),
        (lambda: Key("a", bytes(32), "2026"), TypeError, ["created_at", "datetime or None", "str"]),
        (lambda: Key("a", bytes(32), written_until=5), TypeError, ["written_until", "datetime or None", "int"]),
        (lambda: Key("a", bytes(32), written_until=now), ValueError, ["written_until", "aware and in UTC"]),
        (lambda: Key("a", bytes(32), now), ValueError, ["created_at", "aware and in UTC"]),
        (lambda: Key("a", bytes(32), now.replace(tzinfo=here)), ValueError, ["created_at", "aware and in UTC"]),
        (lambda: decode_key_text(None), TypeError, ["key text", "str", "NoneType"]),
        (lambda: decode_key_text(KEY_TEXT.encode()), TypeError, ["key text", "str", "bytes"]),
        (lambda: decode_key_text(KEY_TEXT[:-2]), InvalidKeyError, ["31 bytes", "32"]),
        (lambda: decode_key_text("!" + KEY_TEXT), InvalidKeyError, ["character", "base64"]),
        (lambda: parse_kid(5), TypeError, ["kid", "str", "int"]),
        (lambda: weakness_of("text"), TypeError, ["secret", "bytes", "str"]),
        (lambda: open_provider("env:X", strict="yes"), TypeError, ["strict", "bool", "str"]),
        (lambda: KeyRing.from_url("env:X", strict=1), TypeError, ["strict", "bool", "int"]),
        (lambda: looks_like_provider_url(None), TypeError, ["text", "str", "NoneType"]),
        (lambda: StaticKeyProvider(None), TypeError, ["key 1 of 1", "Key or base64 text", "NoneType"]),
        (lambda: StaticKeyProvider(KEY, bytes(32)), TypeError, ["key 2 of 2", "Key or base64 text", "bytes"]),
        (lambda: StaticKeyProvider(KEY, "abc"), InvalidKeyError, ["key 2 of 2", "2 bytes"]),
        (lambda: StaticKeyProvider(KEY, KEY), InvalidKeyError, ["keys 1 and 2", "same key"]),
        (
            lambda: StaticKeyProvider(KEY, Key("test", bytes(32))),
            InvalidKeyError,
            ["keys 1 and 2", "same name", "'test'"],
        ),
        (lambda: StaticKeyProvider(KEY).get(None), TypeError, ["name", "str", "NoneType"]),
        (lambda: FileKeyProvider(None), TypeError, ["path", "str", "NoneType"]),
        (lambda: FileKeyProvider(b"/keys"), TypeError, ["path", "str", "bytes"]),
        (lambda: FileKeyProvider(""), ProviderConfigError, ["empty", "file:/etc/keys"]),
        (lambda: FileKeyProvider(KEY_TEXT), ProviderConfigError, ["a key was given", "path"]),
        (
            lambda: open_provider("file://host/keys"),
            ProviderConfigError,
            ["cannot name another machine", "file:///path"],
        ),
        (lambda: EnvKeyProvider(None), TypeError, ["variable", "str", "NoneType"]),
        (lambda: EnvKeyProvider(""), ProviderConfigError, ["environment variable", "0 characters", "env:SESSION_KEYS"]),
        (lambda: EnvKeyProvider("A B"), ProviderConfigError, ["environment variable", "3 characters"]),
        (lambda: EnvKeyProvider(KEY_TEXT), ProviderConfigError, ["a key was given", "env:SESSION_KEYS"]),
        (
            lambda: EnvKeyProvider("NO_SUCH_VARIABLE_SET").active(),
            ProviderConfigError,
            ["NO_SUCH_VARIABLE_SET", "not set"],
        ),
        (
            lambda: EnvKeyProvider("NO_SUCH_VARIABLE_SET").get("a"),
            ProviderConfigError,
            ["NO_SUCH_VARIABLE_SET", "keygen"],
        ),
    ]


def wrong_rings() -> list[Wrong]:
    class OnlyActive:
        def active(self) -> Key:
            return KEY

    good = StaticKeyProvider(KEY)
    cases: list[Wrong] = [
        (lambda: KeyRing("env:X"), TypeError, ["provider", "str", "KeyRing.from_url()"]),
        (lambda: KeyRing(None), TypeError, ["provider", "active() and get(name)", "NoneType"]),
        (lambda: KeyRing(OnlyActive()), TypeError, ["provider", "active() and get(name)", "OnlyActive"]),
        (lambda: KeyRing(StaticKeyProvider), TypeError, ["provider", "StaticKeyProvider"]),
        (lambda: KeyRing(good, also_read="env:X"), TypeError, ["also_read", "list", "str"]),
        (lambda: KeyRing(good, also_read=good), TypeError, ["also_read", "list", "StaticKeyProvider"]),
        (lambda: KeyRing(good, also_read=None), TypeError, ["also_read", "list", "None"]),
        (lambda: KeyRing(good, also_read=[None]), TypeError, ["also_read", "active() and get(name)", "NoneType"]),
        (lambda: KeyRing(good, also_read=["nothing:x"]), ProviderConfigError, ["nothing:", "env:"]),
        (lambda: KeyRing(good, cache=RetryPolicy()), TypeError, ["cache", "CachePolicy", "RetryPolicy"]),
        (lambda: KeyRing(good, retry={"attempts": 1}), TypeError, ["retry", "RetryPolicy", "dict"]),
        (lambda: KeyRing(good, on_event="print"), TypeError, ["on_event", "callable", "str"]),
        (lambda: KeyRing(good, on_event=asyncio.sleep), TypeError, ["on_event", "plain function"]),
        (lambda: encrypted_sessions.observe("print"), TypeError, ["hook", "callable", "str"]),  # type: ignore[arg-type]
        (lambda: keyproviders.observe(asyncio.sleep), TypeError, ["hook", "plain function"]),
        (lambda: keyproviders.observe_calls("print"), TypeError, ["hook", "callable", "str"]),  # type: ignore[arg-type]
        (lambda: keyproviders.observe_keysets("print"), TypeError, ["hook", "callable", "str"]),  # type: ignore[arg-type]
        (lambda: encrypted_sessions.audit_context(actor=5), TypeError, ["actor", "str", "int"]),  # type: ignore[arg-type]
        (lambda: encrypted_sessions.audit_context(actor="a" * 257), ValueError, ["actor", "257", "256"]),
        (lambda: KeyRing(good, clock=5), TypeError, ["clock", "callable", "int"]),
        (lambda: KeyRing(good, sleep=None), TypeError, ["sleep", "callable", "NoneType"]),
        (lambda: KeyRing(good, name=5), TypeError, ["name", "str", "int"]),
        (lambda: KeyRing(good, name=""), ValueError, ["name", "empty"]),
        (lambda: KeyRings("env:X"), TypeError, ["ring_for", "function", "str"]),
        (lambda: KeyRings(print, max_rings=0), ValueError, ["max_rings", "1 or more", "0"]),
        (lambda: KeyRings(print, idle_s=-1), ValueError, ["idle_s", "0 or more", "-1"]),
        (lambda: KeyRing.from_url(None), TypeError, ["url", "str", "NoneType"]),
        (lambda: KeyRing.from_url("env:X", allow_insecure=1), TypeError, ["allow_insecure", "bool", "int"]),
        (lambda: KeyRing.from_url("env:X", also_read="env:Y"), TypeError, ["also_read", "list"]),
        (lambda: ring().get_sync(None), TypeError, ["kid", "str", "NoneType"]),
        (lambda: open_provider(b"env:X"), TypeError, ["url", "str", "bytes"]),
        (lambda: open_provider("env:X", allow_insecure="yes"), TypeError, ["allow_insecure", "bool", "str"]),
        (
            lambda: open_provider("nothing:x"),
            ProviderConfigError,
            ["nothing:", "env:", "vault-kv:", "[vault]", "[aws]"],
        ),
        (lambda: open_provider("X"), ProviderConfigError, ["must begin with a scheme", "1 characters", "env:"]),
        (lambda: open_provider(""), ProviderConfigError, ["must begin with a scheme", "0 characters", "env:"]),
        (lambda: open_provider("aws-kms:alias/x"), ProviderConfigError, ["aws-kms:", "where its keyset is", "keyset="]),
        (lambda: open_keyset(5), TypeError, ["url must be a str, not int"]),  # type: ignore[arg-type]  # what is tested
        (lambda: open_keyset(KEY_TEXT), ProviderConfigError, ["44 characters", "aws-kms:", "vault-transit:"]),
        (lambda: redact_frames(None), TypeError, ["function", "NoneType"]),
        (lambda: redact_frames(5), TypeError, ["function", "int"]),
        (lambda: KeyUnavailableError(None), TypeError, ["message", "str", "NoneType"]),
        (lambda: KeyUnavailableError("x", retry_after_s="1"), TypeError, ["retry_after_s", "number", "str"]),
        (lambda: KeyUnavailableError("x", retry_after_s=True), TypeError, ["retry_after_s", "number", "bool"]),
        (lambda: KeyUnavailableError("x", retry_after_s=-1), ValueError, ["retry_after_s", "0 or more"]),
        (lambda: KeyUnavailableError("x", retry_after_s=float("nan")), ValueError, ["retry_after_s", "finite"]),
    ]
    for policy in (CachePolicy, RetryPolicy):
        for field in policy.__slots__:
            where = f"{policy.__name__}.{field}"
            numbers = (0, -1) if field in ("attempts", "max_keys") else (-1, -0.5, float("inf"), float("nan"))
            cases += [
                (partial(policy, **{field: value}), TypeError, [where, type(value).__name__])
                for value in ("5", None, True, [5])
            ]
            cases += [(partial(policy, **{field: number}), ValueError, [where, str(number)]) for number in numbers]
    return cases


def run(operation: Any, *arguments: Any, **options: Any) -> Any:
    """An operation on a whole store, which looks at its arguments before it opens anything."""
    return asyncio.run(operation(*arguments, **options))


def wrong_maintenance() -> list[Wrong]:
    place = maintenance.open_store("sqlite:///no-such-file.db")
    url = ["sqlite:///relative/path.db", "postgresql://", "redis://", "env:NAME"]
    cases: list[Wrong] = [
        (lambda: maintenance.open_store(None), TypeError, ["URL", "str", "NoneType"]),
        (lambda: maintenance.open_store(b"sqlite:///a.db"), TypeError, ["URL", "str", "bytes"]),
        (lambda: maintenance.open_store("agents.db"), StoreConfigError, ["'agents.db'", "sqlite:///agents.db"]),
        (lambda: maintenance.open_store(""), StoreConfigError, url),
        (lambda: maintenance.open_store("mysql://h/d"), StoreConfigError, ["mysql://", *url]),
        (lambda: maintenance.open_store("sqlite://"), StoreConfigError, ["in memory", "sqlite:///"]),
        (lambda: maintenance.open_store(f"redis://:{KEY_TEXT}@h/0"), StoreConfigError, ["password", "env:NAME"]),
        (lambda: maintenance.open_store("env:"), StoreConfigError, ["name of a variable", "env:SESSIONS_URL"]),
        (lambda: maintenance.open_store("env:NO_SUCH_VARIABLE_SET"), StoreConfigError, ["NO_SUCH_VARIABLE_SET"]),
        (lambda: maintenance.open_store("sqlite:///a", sessions_table=5), TypeError, ["sessions_table", "str", "int"]),
        (lambda: maintenance.open_store("sqlite:///a", messages_table=""), StoreConfigError, ["messages_table"]),
        (lambda: maintenance.open_store("sqlite:///a", key_prefix=None), TypeError, ["key_prefix", "str", "NoneType"]),
        (lambda: run(maintenance.purge, place, ring(), ttl=None), TypeError, ["ttl", "int of seconds", "None"]),
        (lambda: run(maintenance.reencrypt, place, ring(), from_kid=5), TypeError, ["from_kid", "str", "int"]),
        (lambda: run(maintenance.reencrypt, place, ring(), from_kid="x"), ValueError, ["from_kid", "name~fingerprint"]),
        (
            lambda: run(maintenance.discard, place, ring(), outcome=5, export=None),
            TypeError,
            ["outcome", "erased", "int"],
        ),
        (
            lambda: run(maintenance.discard, place, ring(), outcome="ok", export="a"),
            ValueError,
            ["outcome", "'ok'", "erase"],
        ),
        (
            lambda: run(maintenance.discard, place, ring(), outcome="odd", export="a"),
            ValueError,
            ["outcome", "unauthentic", "3 characters"],
        ),
        (
            lambda: run(maintenance.discard, place, ring(), outcome="expired_unverified", export="a"),
            ValueError,
            ["outcome", "ttl="],
        ),
        (
            lambda: run(maintenance.discard, place, ring(), outcome="malformed", export=None),
            TypeError,
            ["export", "path", "None"],
        ),
        (
            lambda: run(maintenance.discard, place, ring(), outcome="malformed", export=""),
            ValueError,
            ["export", "empty"],
        ),
        (lambda: run(maintenance.put_back, place, ring(), export=None), TypeError, ["export", "path", "None"]),
        (lambda: run(maintenance.put_back, place, ring(), export="a", unverified=1), TypeError, ["unverified", "int"]),
        (lambda: run(maintenance.erase, "place", ["a"]), TypeError, ["store", "open_store(", "str"]),
        (lambda: run(maintenance.erase, place, "a"), TypeError, ["sessions", "list", "str"]),
        (lambda: run(maintenance.erase, place, []), ValueError, ["sessions", "empty"]),
        (lambda: run(maintenance.erase, place, [5]), TypeError, ["session_id", "str", "int"]),
        (lambda: run(maintenance.erase, place, ["a"], dry_run=1), TypeError, ["dry_run", "True or False", "int"]),
    ]
    operations: list[Any] = [
        maintenance.inventory,
        maintenance.verify,
        maintenance.reencrypt,
        maintenance.encrypt_plaintext,
        partial(maintenance.purge, ttl=60),
        partial(maintenance.discard, outcome="malformed", export="no-such-file"),
        partial(maintenance.put_back, export="no-such-file"),
    ]
    for operation in operations:
        cases += [
            (partial(run, operation, "place", ring()), TypeError, ["store", "open_store(", "str"]),
            (partial(run, operation, place, "env:X"), TypeError, ["keys", "KeyRing", "str"]),
            (partial(run, operation, place, ring(), batch=0), ValueError, ["batch", "from 1 to", "0"]),
            (partial(run, operation, place, ring(), batch=10**6), ValueError, ["batch", "from 1 to", "1000000"]),
            (partial(run, operation, place, ring(), batch=True), TypeError, ["batch", "int", "bool"]),
            (partial(run, operation, place, ring(), progress=5), TypeError, ["progress", "callable", "int"]),
            (partial(run, operation, place, ring(), stop="no"), TypeError, ["stop", "callable", "str"]),
            (partial(run, operation, place, ring(), upstream_key=""), ValueError, ["upstream_key", "empty"]),
            (partial(run, operation, place, ring(), upstream_key=b"a"), TypeError, ["upstream_key", "str", "bytes"]),
        ]
    for operation in operations[2:6]:
        cases += [
            (partial(run, operation, place, ring(), limit=0), ValueError, ["limit", "1 or more", "0"]),
            (partial(run, operation, place, ring(), limit="5"), TypeError, ["limit", "int", "str"]),
        ]
    for operation in (*operations[:2], operations[5]):
        cases += [
            (partial(run, operation, place, ring(), ttl=0), ValueError, ["ttl", "positive", "0"]),
            (partial(run, operation, place, ring(), ttl=1.5), TypeError, ["ttl", "int of seconds", "float"]),
        ]
    return cases


CASES = [
    pytest.param(*case, id=f"{make.__name__}-{number}")
    for make in (
        wrong_session_ids,
        wrong_ttls,
        wrong_keys,
        wrong_choices,
        wrong_stores,
        wrong_bounds,
        wrong_key_material,
        wrong_rings,
        wrong_maintenance,
    )
    for number, case in enumerate(make())
]


@pytest.mark.parametrize(("call", "kind", "words"), CASES)
def test_a_wrong_argument_is_named_with_what_was_given_and_what_is_expected(
    call: Callable[[], Any], kind: type[Exception], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert not [word for word in words if word not in message], message
    assert KEY_TEXT not in message
    assert KEY_TEXT.rstrip("=") not in message
    assert len(message) < 500


@pytest.mark.parametrize("value", ["5", 5.0, True, b"5", [5]])
@pytest.mark.parametrize("method", ["get_items", "read"])
async def test_a_limit_that_is_no_int_is_refused(method: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"limit must be an int or None, not {type(value).__name__}"):
        await getattr(session(), method)(value)


@pytest.mark.parametrize("method", ["get_items", "read"])
async def test_a_negative_limit_is_refused_also_from_the_settings(method: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit must be 0 or more, not -1"):
        await getattr(session(), method)(-1)
    settings = SessionSettings(limit=1)
    settings.limit = -1
    in_file = SQLiteSession("session", tmp_path / "sessions.db", session_settings=settings)
    try:
        with pytest.raises(ValueError, match="limit must be 0 or more, not -1"):
            await getattr(EncryptedSession.wrap(in_file, ring(), ttl=None), method)()
    finally:
        in_file.close()


@pytest.mark.parametrize(
    "items",
    [None, "text", b"bytes", {"role": "user"}, 5, {1}, iter([{"role": "user"}])],
    ids=lambda value: type(value).__name__,
)
async def test_items_that_are_no_list_are_refused_and_nothing_is_written(items: Any) -> None:
    inner = store()
    with pytest.raises(TypeError, match=r"items must be a list of items, not .*; nothing was written"):
        await EncryptedSession.wrap(inner, ring(), ttl=None).add_items(items)
    assert inner._rows == []


async def test_an_unknown_keyword_or_one_argument_too_many_is_refused() -> None:
    with pytest.raises(TypeError):
        session(encryption_keys=KEY_TEXT)
    with pytest.raises(TypeError):
        EncryptedSession.wrap(store(), ring())  # type: ignore[call-arg]  # the ttl has to be said
    with pytest.raises(TypeError):
        await session().get_items(1, 2)  # type: ignore[call-arg]  # what is tested


#: What is given out and not taken in, or takes nothing but what a caught error carries.
GIVEN_OUT = {
    "AuditFailedError",
    "EncryptedSessionError",
    "Finding",
    "History",
    "HistoryChangedError",
    "ItemCount",
    "KeyEvent",
    "KeysetCall",
    "KeysetEvent",
    "InsecurePermissionsWarning",
    "LongSessionIdWarning",
    "ProviderCall",
    "PurgeRefusedError",
    "PutBackError",
    "RingHealth",
    "RingSnapshot",
    "RunEvent",
    "ScanBudgetError",
    "SessionEvent",
    "StoreConfigError",
    "StoreError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "UnreadableItemsError",
    "WeakKeyWarning",
    "KeyProvider",
    "is_strict",
    "snapshot_rings",
    "known_schemes",
    *(name for name in maintenance.__all__ if name[0].isupper()),  # reports
}


def test_every_public_name_that_takes_arguments_is_tested_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for module in (encrypted_sessions, maintenance, keyproviders, keyproviders.local):
        for name in set(module.__all__) - GIVEN_OUT:
            thing = getattr(module, name)
            if inspect.isclass(thing) and issubclass(thing, keyproviders.KeyProviderError):
                continue  # they share their parent's check of the message
            assert (
                f"{name}(" in source or f"{name}." in source or f"({name}" in source or f"maintenance.{name}," in source
            ), name
