"""One operation of a session while it runs: what it opened, sealed and removed, and what is told of it at its end."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..core.finding import Finding
from ..core.kids import shown_kid
from ..core.outcomes import MAX_FINDINGS, UNREADABLE
from .beginnings import tell_beginning
from .context import context_now
from .hooks import ask, next_sequence, recorders, tell_failure, told, wait
from .listening import LISTENING, Hook, current
from .shapes import ItemCount, SessionEvent

if TYPE_CHECKING:
    from .protocols import Item, Judged, Judging

__all__ = ["Operation", "Tally", "perform"]

_T = TypeVar("_T")

_NONE: Mapping[str, int] = {}


class Tally(NamedTuple):
    """What an operation had counted at one moment."""

    judged: dict[tuple[str | None, str], int]
    refused: int
    findings: list[Finding]


class Operation:
    """Counts what one operation does, for those who are told at its end.

    `history` is what it belongs to: what one operation of a session calls of the same session is a part of it.
    """

    def __init__(self, name: str, session: str, store: str, history: object, hooks: Sequence[Hook]) -> None:
        self.history = history
        self.ended = False
        self._name = name
        self._session = session
        self._store = store
        self._hooks = hooks
        self._sequence = next_sequence()
        self._began = time.perf_counter()
        self._sealed: dict[str, int] = {}
        self._judged: dict[tuple[str | None, str], int] = {}
        self._refused = 0
        self._findings: list[Finding] = []
        self._removed = 0
        self._in_doubt = 0
        tell_beginning(self._sequence, name, session)

    # What it does.

    def sealed(self, kid: str, items: int) -> None:
        """Items were sealed under a key."""
        self._sealed[kid] = self._sealed.get(kid, 0) + items

    def judging(self) -> Judging:
        """What takes note of the rows of one walk, the newest first."""
        position = 0

        def judge(rows: Sequence[Judged | Item], opened: Mapping[str, int] = _NONE) -> None:
            nonlocal position
            left = len(rows)
            for kid, items in opened.items():
                self._judged[kid, "ok"] = self._judged.get((kid, "ok"), 0) + items
                left -= items
            if left:
                self.judged(rows, position)
            position += len(rows)

        return judge

    def judged(self, rows: Sequence[Judged | Item], position: int | None = None) -> None:
        """Rows were judged, the first of them at `position` from the newest one; None where that is not known.

        One that is an item already was counted when it was opened.
        """
        judged = self._judged
        if rows and not isinstance(rows[0], dict) and rows[0].outcome == "ok":
            # Nearly always all are, under one key. This runs for each row: without a call, and in one pass.
            kid = rows[0].kid
            for row in rows:
                if isinstance(row, dict) or row.outcome != "ok" or row.kid != kid:
                    break
            else:
                judged[kid, "ok"] = judged.get((kid, "ok"), 0) + len(rows)
                return
        for place, row in enumerate(rows):
            if isinstance(row, dict):
                continue
            name, outcome = row.kid, row.outcome
            judged[name, outcome] = judged.get((name, outcome), 0) + 1
            if row.item is None and outcome not in ("expired", "ok"):
                if outcome in UNREADABLE:
                    self._refused += 1
                if position is not None and len(self._findings) < MAX_FINDINGS:
                    self._findings.append(Finding(position + place, outcome, shown_kid(name)))

    def tally(self) -> Tally | None:
        """What was judged so far, to come back to; None for nothing."""
        return Tally(self._judged.copy(), self._refused, self._findings.copy()) if self._judged else None

    def back_to(self, tally: Tally | None) -> None:
        """Count from there again: what was judged since is judged anew."""
        judged, self._refused, findings = ({}, 0, []) if tally is None else tally
        self._judged, self._findings = judged.copy(), findings.copy()

    def removing(self) -> None:
        """Rows are to be removed: until `removed` says how many, nobody knows."""
        self._in_doubt += 1

    def removed(self, rows: int) -> None:
        """So many were removed."""
        self._in_doubt -= 1
        self._removed += rows

    def put_back(self, rows: int) -> None:
        """Rows that had been removed are in the store again."""
        self._removed -= rows

    # What is told.

    async def begin(self) -> None:
        """Have those take note before it begins who may refuse it."""
        asked = recorders(self._hooks)
        if asked:
            await ask(asked, self._event(None))

    def end(self) -> list[Future[None]]:
        """Tell what it did, and what is to be waited for: it raises what keeps a recorder from taking note."""
        self.ended = True
        return told(self._hooks, self._event(None))

    async def fail(self, error: BaseException) -> None:
        """Tell what it did until `error` was raised. Raises what keeps a recorder from taking note."""
        self.ended = True
        await tell_failure(self._hooks, self._event(error), error)

    def _event(self, error: BaseException | None) -> SessionEvent:
        return SessionEvent(
            datetime.now(timezone.utc),
            self._sequence,
            self._name,
            self._session,
            self._store,
            self._uses(),
            self._refused,
            None if self._in_doubt else self._removed,
            tuple(self._findings),
            None if error is None else type(error).__name__,
            time.perf_counter() - self._began,
            context_now(),
        )

    def _uses(self) -> tuple[ItemCount, ...]:
        found = [ItemCount(shown_kid(kid), "sealed", items) for kid, items in self._sealed.items()]
        unshown: dict[str, int] = {}  # rows whose kid is none: several of them are one
        for (kid, outcome), items in self._judged.items():
            shown = shown_kid(kid)
            if shown is None:
                unshown[outcome] = unshown.get(outcome, 0) + items
            else:
                found.append(ItemCount(shown, outcome, items))
        for outcome, items in unshown.items():
            found.append(ItemCount(None, outcome, items))
        return tuple(found)


async def perform(
    name: str,
    session: Any,
    run: Callable[..., Awaitable[_T]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    changes: bool,
) -> _T:
    """Run an operation of a session, and tell what it did. A part of one that runs is told with that.

    One that `changes` something is told to recorders before.
    """
    history = session._sealed  # noqa: SLF001 - what a session and its parts have in common
    outer = current.get()
    if outer is not None and not outer.ended and outer.history is history:
        return await run(*args, **kwargs)
    hooks = LISTENING.hooks_with(session._on_event)  # noqa: SLF001 - likewise
    if not hooks:
        return await run(*args, **kwargs)
    operation = Operation(name, session.session_id, history.log.store, history, hooks)
    token = current.set(operation)
    try:
        if changes:
            await operation.begin()
        result = await run(*args, **kwargs)
    except GeneratorExit:  # the loop is gone, and nothing can be waited for
        operation.ended = True
        raise
    except BaseException as error:
        current.reset(token)
        await operation.fail(error)
        raise
    current.reset(token)
    for answer in operation.end():
        await wait(answer)
    return result
