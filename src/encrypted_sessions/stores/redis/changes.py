"""Changes to elements of lists: which scripts make them, and what is known of those whose reply was lost.

Where the user may run no script, the same changes are made by WATCH, MULTI and EXEC, under the same numbers.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..whole import StoredRow
from .by_watch import plan_change
from .connection import Command, RedisConnection
from .notes import note_of
from .scripts import REMOVE

__all__ = ["Change", "ListPosition", "ScriptedChanges"]

#: A row, and what comes in its place.
Change = tuple[StoredRow, bytes]

#: Elements that have more bytes, on average, go as arguments of their own.
_LARGE = 2**16

#: The most elements that one script changes.
_CHUNK = 500


class ListPosition(NamedTuple):
    """Where an element was: the key of the list, and how many elements were before it."""

    key: bytes
    offset: int


class _Chunk(NamedTuple):
    """The part of a change that one script makes: a list, the change's number, and the indexes of its rows."""

    key: bytes
    number: str
    rows: list[int]


class ScriptedChanges:
    """Changes that are made once, though their scripts may be sent twice."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        # A change whose reply was lost: if it is asked for again, it goes out under the same numbers.
        self._in_doubt: tuple[str, Sequence[Change], list[_Chunk]] | None = None
        self._notes: list[bytes] = []

    async def make(self, script: str, changes: Sequence[Change]) -> list[bool]:
        """Run a script over the rows of each list; for each row whether it was as it was read."""
        if self._in_doubt is None or self._in_doubt[:2] != (script, changes):
            self._in_doubt = (script, changes, list(_chunks(changes)))
        _, _, chunks = self._in_doubt
        commands: list[Command] = [("UNLINK", *self._notes)] if self._notes else []
        commands += [_command(script, chunk, changes) for chunk in chunks]
        replies = await self._connection.run_scripts(commands)
        if replies is None:
            outcomes = [await self._by_watch(script, chunk, changes) for chunk in chunks]
            await self.remove_notes()
        else:
            outcomes = replies[len(commands) - len(chunks) :]
        self._in_doubt = None
        self._notes = [note_of(chunk.key, chunk.number) for chunk in chunks]
        changed = [False] * len(changes)
        for chunk, outcome in zip(chunks, outcomes, strict=True):
            for index, done in zip(chunk.rows, outcome, strict=True):
                changed[index] = done == ord("1")
        return changed

    async def _by_watch(self, script: str, chunk: _Chunk, changes: Sequence[Change]) -> bytes:
        note, some = note_of(chunk.key, chunk.number), [changes[index] for index in chunk.rows]

        async def plan(watched: Any) -> tuple[list[Command], bytes]:
            return await plan_change(watched, chunk.key, note, chunk.number, some, removes=script is REMOVE)

        return await self._connection.transact((chunk.key, note), plan)

    async def remove_notes(self) -> None:
        """Remove what was noted beside the lists."""
        if self._notes:
            await self._connection.run([("UNLINK", *self._notes)])
            self._notes = []


def _chunks(changes: Sequence[Change]) -> Iterator[_Chunk]:
    by_list: dict[bytes, list[int]] = {}
    for index, (row, _) in enumerate(changes):
        by_list.setdefault(row.id.key, []).append(index)
    for key, indexes in by_list.items():
        for start in range(0, len(indexes), _CHUNK):
            yield _Chunk(key, secrets.token_hex(16), indexes[start : start + _CHUNK])


def _command(script: str, chunk: _Chunk, changes: Sequence[Change]) -> Command:
    elements: list[bytes] = []
    lengths: list[str] = []
    for index in chunk.rows:
        (row, new), old = changes[index], changes[index][0].data
        elements += (old, new)  # type: ignore[arg-type] # an element of Redis is bytes
        lengths.append(f"{row.id.offset},{len(old)},{len(new)}")
    offsets = [changes[index][0].id.offset for index in chunk.rows]
    head = (script, 2, chunk.key, note_of(chunk.key, chunk.number), chunk.number, min(offsets), max(offsets))
    are_large = sum(map(len, elements)) > _LARGE * len(elements)  # then they are not copied once more
    return ("EVAL", *head, " ".join(lengths), *(elements if are_large else [b"".join(elements)]))
