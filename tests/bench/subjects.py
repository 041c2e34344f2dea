"""What is compared: the bare store, the SDK's own encrypted session over it, and this library's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from agents.extensions.memory import AdvancedSQLiteSession
from agents.extensions.memory import EncryptedSession as SdkEncryptedSession
from measuring import Taken

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions_tests.stores import StoreLocation, open_store
from keyproviders.local import StaticKeyProvider

SESSION = "user-1"
TTL = 86_400

BARE, SDK, OURS = "bare store", "SDK's class", "this library"
OURS_2 = "this library, suite 2"
SUBJECTS = (BARE, SDK, OURS)

_WORDS = "The table by the window is free on Saturday at eight, and so is the one beside the door. "


def message(size: int) -> dict[str, Any]:
    """A message whose JSON, as it is sealed, has `size` bytes."""
    empty = len(json.dumps({"role": "user", "content": ""}, separators=(",", ":")))
    return {"role": "user", "content": (_WORDS * (size // len(_WORDS) + 1))[: size - empty]}


def deep(levels: int) -> dict[str, Any]:
    """A value inside so many dicts and lists."""
    value: Any = {"leaf": "text", "number": 1}
    for level in range(levels):
        value = {"below": value} if level % 2 else [value]
    return {"type": "function_call_output", "call_id": "call_1", "output": value}


def tool_result() -> dict[str, Any]:
    """What a tool may give: 12 records with lists and dicts in them, some 3 KiB."""
    record = {
        "id": 10_423,
        "name": "The table by the window",
        "free": [{"day": "Saturday", "from": "20:00", "seats": 2}, {"day": "Sunday", "from": "19:30", "seats": 4}],
        "price": {"amount": 12.5, "currency": "EUR", "tax": {"rate": 0.19, "included": True}},
        "note": None,
    }
    return {"type": "function_call_output", "call_id": "call_1", "output": {"count": 12, "tables": [record] * 12}}


def bushy() -> dict[str, Any]:
    """A tree of some 200 dicts and lists with hardly any text: the worst case for exact JSON."""

    def grow(height: int) -> Any:
        if height == 0:
            return {"id": 1, "name": "text", "flags": [True, None, 1.5]}
        branches = [grow(height - 1) for _ in range(3)]
        return branches if height % 2 else {f"branch_{place}": branch for place, branch in enumerate(branches)}

    return {"type": "function_call_output", "call_id": "call_1", "output": grow(4)}


def session_of(subject: str, store: Any, key: Key) -> Any:
    """The session that a subject is, over a store. The SDK's class reads our rows: it ignores the kid."""
    if subject == BARE:
        return store
    if subject == SDK:
        if not hasattr(store, "session_settings"):
            store.session_settings = None  # which the SDK's class needs, and a plain session may lack
        return SdkEncryptedSession(SESSION, store, key.reveal_base64(), ttl=TTL)
    ring = KeyRing(StaticKeyProvider(key))
    if isinstance(store, AdvancedSQLiteSession):
        return EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=TTL)
    return EncryptedSession.wrap(store, ring, ttl=TTL, suite=2 if subject == OURS_2 else 1)


@contextlib.asynccontextmanager
async def all_three(
    folder: str, kind: str = "sqlite", subjects: Sequence[str] = SUBJECTS
) -> AsyncIterator[dict[str, Any]]:
    """Each subject over a store of its own."""
    async with contextlib.AsyncExitStack() as stack:
        sessions = {}
        for number, subject in enumerate(subjects):
            place = StoreLocation(kind, f"{folder}/{number}.db", f"s{number}")
            store = await stack.enter_async_context(open_store(place, SESSION))
            sessions[subject] = session_of(subject, store, Key.generate("bench"))
        yield sessions


async def add_and_get(session: Any, batch: list[Any]) -> tuple[Taken, Taken]:
    """What it takes to add a batch to a session that is cleared first, and to read it again."""
    await session.clear_session()
    start = Taken.since()
    await session.add_items(batch)
    added = Taken.since(start)
    start = Taken.since()
    items = await session.get_items()
    got = Taken.since(start)
    assert items == batch, session
    return added, got
