"""Which sessions a run is limited to: some by their ids, or all whose ids begin alike."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from .. import arguments as checks
from ..arguments import kind_of
from ..stores.whole import WholeStore
from .session_ids import SessionIds

__all__ = ["GROUP", "SessionFilter", "session_filter"]

#: How many sessions are looked for, or read, at once.
GROUP = 50

#: How many ids are fetched at once where a prefix names them.
_PAGE = 5_000

_T = TypeVar("_T")
Call = Callable[[Callable[[], Awaitable[_T]]], Awaitable[_T]]


class SessionFilter:
    """Sessions by name, or by how their ids begin."""

    def __init__(self, ids: Iterable[str] | None, prefix: str | None) -> None:
        self.ids = ids
        self.prefix = prefix

    def __repr__(self) -> str:
        return "SessionFilter()"  # ids may be personal

    def __str__(self) -> str:
        """What it names, in words."""
        if self.prefix is not None:
            return f"sessions whose ids begin with {self.prefix!r}"
        count = self.count
        return f"{count:,} named session{'' if count == 1 else 's'}"

    @property
    def count(self) -> int:
        """How many sessions are named; 0 for a prefix."""
        return 0 if self.ids is None else len(self.ids)  # type: ignore[arg-type]  # a list or SessionIds

    def notice(self) -> str | None:
        """What was skipped in the file of ids, in words."""
        ids = self.ids
        if not isinstance(ids, SessionIds) or not (ids.blank_lines or ids.doubles):
            return None
        return f"{ids.blank_lines:,} blank lines and {ids.doubles:,} duplicates in the file of sessions were skipped"

    async def groups(self, store: WholeStore, call: Callable[..., Awaitable[Any]]) -> AsyncGenerator[list[str], None]:
        """The ids, in groups: of a prefix, those that the store has; else the named ones, there or not."""
        if self.prefix is None:
            named = iter(self.ids or ())
            while group := list(islice(named, GROUP)):
                yield group
            return
        last: str | None = None
        while page := await call(partial(store.session_ids, self.prefix, last, _PAGE)):
            last = page[-1]
            for start in range(0, len(page), GROUP):
                yield page[start : start + GROUP]

    async def present(
        self, store: WholeStore, call: Callable[..., Awaitable[Any]]
    ) -> AsyncGenerator[tuple[list[str], int], None]:
        """Groups of those that the store has, each with the number of those that it has not.

        A prefix that no session's id begins with counts as one that is missing.
        """
        met = False
        async for group in self.groups(store, call):
            met = True
            if self.prefix is not None:
                yield group, 0
            else:
                there = await call(partial(store.present, group))
                yield [one for one in group if one in there], len(group) - len(there)
        if not met:
            yield [], 1


def session_filter(sessions: object, session_prefix: object) -> SessionFilter | None:
    """What was given, checked; None where nothing limits the run."""
    if sessions is not None and session_prefix is not None:
        raise ValueError("give sessions= or session_prefix=, not both")
    if session_prefix is not None:
        return SessionFilter(None, _prefix(session_prefix))
    return None if sessions is None else SessionFilter(_ids(sessions), None)


def _ids(value: object) -> Iterable[str]:
    if isinstance(value, SessionIds):
        if not value:
            raise ValueError("there is no session id in it; name at least one")
        return value
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"sessions must be a list of session ids, not {kind_of(value)}")
    if not value:
        raise ValueError("sessions is empty; name at least one session id")
    return list(dict.fromkeys(checks.session_id(one) for one in value))


def _prefix(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"session_prefix must be a str, not {kind_of(value)}")
    if not value:
        raise ValueError("session_prefix is empty, and every id begins with that; leave it out to work on all sessions")
    try:
        return checks.session_id(value)
    except ValueError as error:
        problem = str(error)
    raise ValueError(problem.replace("session_id", "session_prefix", 1))
