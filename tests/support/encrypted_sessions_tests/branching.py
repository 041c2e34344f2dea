"""Sessions with branches: the SDK's class, bare and sealed, what one says to it, and what lies in its file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agents.extensions.memory import AdvancedSQLiteSession
from agents.usage import Usage

from encrypted_sessions import KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession

__all__ = [
    "SESSION",
    "answer",
    "assert_whole",
    "bare",
    "call",
    "everything_in",
    "look",
    "output",
    "question",
    "result",
    "sealed",
    "select",
    "statement",
    "texts",
    "turns",
    "without_times",
]

SESSION = "user-1"


def question(text: str) -> Any:
    return {"role": "user", "content": text}


def answer(text: str) -> Any:
    return {"role": "assistant", "content": text}


def call(name: str, call_id: str = "c1", **more: Any) -> Any:
    return {"type": "function_call", "name": name, "call_id": call_id, "arguments": "{}", **more}


def output(call_id: str = "c1", text: str = "done") -> Any:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def result(tokens: int) -> Any:
    """What a run gives, as far as it tells how many tokens it used."""
    usage = Usage(requests=1, input_tokens=tokens, output_tokens=2 * tokens, total_tokens=3 * tokens)
    return SimpleNamespace(context_wrapper=SimpleNamespace(usage=usage))


@contextlib.contextmanager
def bare(where: Path | str = ":memory:", session_id: str = SESSION, **options: Any) -> Iterator[AdvancedSQLiteSession]:
    session = AdvancedSQLiteSession(session_id=session_id, db_path=where, create_tables=True, **options)
    try:
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def sealed(
    where: Path | str, ring: KeyRing, session_id: str = SESSION, **options: Any
) -> Iterator[EncryptedAdvancedSQLiteSession]:
    with bare(where, session_id) as session:
        yield EncryptedAdvancedSQLiteSession.wrap(session, ring, **{"ttl": None, **options})


def texts(items: Sequence[Any]) -> list[str]:
    return [item["content"] for item in items]


async def turns(session: Any, branch_id: str | None = None) -> list[tuple[int, str]]:
    """The number and the text of each turn."""
    return [(turn["turn"], turn["full_content"]) for turn in await session.get_conversation_turns(branch_id)]


def without_times(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name not in ("timestamp", "created_at")} for one in found]


async def look(session: Any, branch_id: str | None = None, terms: Sequence[str] = ("hello", "")) -> dict[str, Any]:
    """What each method that only reads gives."""
    return {
        "items": await session.get_items(branch_id=branch_id),
        "the last two": await session.get_items(2, branch_id),
        "no items": await session.get_items(0, branch_id),
        "turns": without_times(await session.get_conversation_turns(branch_id)),
        "found": {
            term: without_times(await session.find_turns_by_content(term, branch_id=branch_id)) for term in terms
        },
        "by turns": await session.get_conversation_by_turns(branch_id),
        "tools": await session.get_tool_usage(branch_id),
        "usage": await session.get_session_usage(branch_id),
        "usage by turns": await session.get_turn_usage(branch_id=branch_id),
        "usage of a turn": [await session.get_turn_usage(turn, branch_id) for turn in (1, 2, 99)],
        "branches": sorted(without_times(await session.list_branches()), key=lambda one: one["branch_id"]),
    }


def select(where: Path | str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What lies in the file, by a connection of its own."""
    with contextlib.closing(sqlite3.connect(where)) as connection:
        return connection.execute(query, values).fetchall()


def statement(where: Path | str, words: str, *values: Any) -> int:
    """Change what lies in the file, as an attacker or a bug would; how many rows."""
    with contextlib.closing(sqlite3.connect(where)) as connection, connection:
        return connection.execute(words, values).rowcount


def everything_in(where: Path) -> dict[str, bytes]:
    """All that lies in the columns of each table, and in the file and its log."""
    found = {file.name: file.read_bytes() for file in where.parent.glob(f"{where.name}*")}
    tables = [name for (name,) in select(where, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        rows = select(where, f'SELECT * FROM "{table}"')  # noqa: S608 - the file's own name for it
        found[table] = repr(rows).encode()
    return found


#: Rows that only a change that was left half-done can leave.
_HALF_DONE = (
    "message_structure WHERE message_id NOT IN (SELECT id FROM agent_messages)",
    "agent_messages WHERE id NOT IN (SELECT message_id FROM message_structure)",
    "message_structure WHERE branch_id <> 'main' AND branch_id NOT IN (SELECT branch_id FROM branch_reservations)",
)


def assert_whole(where: Path | str) -> None:
    """Structure and messages agree, and the name of each branch is taken."""
    for rows in _HALF_DONE:
        assert select(where, f"SELECT * FROM {rows}") == []  # noqa: S608 - fixed texts
    assert select(where, "PRAGMA integrity_check") == [("ok",)]
