"""One session's sealed rows, and the keys to them: what reading, popping, purging and compaction work on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .._support.warnings import warn_caller
from ..core.envelope import Envelope
from ..core.exact_json import TooLongError
from ..core.outcomes import Outcome
from ..errors import HistoryChangedError, StoreConfigError
from ..events.listening import running
from ..stores.access import Cursor
from ..stores.plain import PlainStore
from ..stores.rows import HistoryMovedError, Row, RowCursor, RowStore
from .classified import AddedAt, Classifier, HistoryWalk, ReadPolicy, SessionOpeners, TimeSlice
from .guarded import GuardedRows, GuardedSession, StoreCalls
from .keychain import Keychain
from .plainly_ok import ReadingClassifier
from .reading import FoundItems, read_items
from .sealing import Sealing
from .session_log import SessionLog
from .shielded import ShieldedChanges

if TYPE_CHECKING:
    from ..events.protocols import Running
    from .turns import Turn

__all__ = ["SealedHistory", "start_again_while_it_moves"]

#: How often an operation starts again because other writers changed the history under it.
_ATTEMPTS = 1000

#: The most characters of a row around what is sealed: a kid, names of members, the token's own bytes.
_AROUND_BODY = 512

_T = TypeVar("_T")
_ClassifierT = TypeVar("_ClassifierT", bound=Classifier[Row])


class SealedHistory:
    """One session's rows and keys, and the policy by which they are read."""

    def __init__(
        self,
        session_id: str,
        session: Any,
        rows: RowStore | PlainStore,
        keychain: Keychain,
        policy: Callable[[], ReadPolicy],
        changes: ShieldedChanges,
        log: SessionLog,
        max_row_bytes: int,
        *,
        sealing: Sealing,
        passed_over: Collection[Outcome],
    ) -> None:
        self.calls = StoreCalls(session_id, changes, log)
        self.session = session
        self.store = self._writer(rows)
        self.keychain = keychain
        self.policy = policy
        self.changes = changes
        self.log = log
        self.max_row_bytes = max_row_bytes
        self.sealing = sealing
        #: Outcomes that are left out whatever else was wished.
        self.passed_over = passed_over
        self.read_from(rows)
        #: Whether `examine` comes before anything else.
        self.is_unexamined = isinstance(rows, RowStore) and rows.is_unexamined()
        #: In which its last pop took its turn.
        self.last_turn: Turn | None = None

    async def examine(self) -> None:
        """Warn of what is wrong with how the store was set up, once; where all is strict, raise StoreConfigError.

        Called in the task of whoever uses the session, whose line the warning names.
        """
        if isinstance(self.rows, RowStore):
            for problem in await self.rows.examine():
                if self.keychain.strict:
                    raise StoreConfigError(f"refused in strict mode: {problem.text}")
                if not problem.is_told:
                    problem.is_told = True
                    warn_caller(problem.text, UserWarning)
        self.is_unexamined = False

    def over(self, rows: RowStore) -> SealedHistory:
        """The same history as another access to its rows shows it."""
        from copy import copy  # noqa: PLC0415 - few sessions purge, and it looks for Jython all along the path

        other = copy(self)
        other.store = self._writer(rows)
        other.read_from(rows)
        return other

    def read_from(self, rows: RowStore | PlainStore) -> None:
        """Have rows from there from now on."""
        if isinstance(rows, RowStore):
            self.rows: GuardedRows | PlainStore = self.guarded(rows)
            self._added_at: AddedAt[Row] | None = self.rows.added_at
            self._stored_as: Callable[[list[dict[str, Any]], Sequence[Any]], list[dict[str, Any]]] | None
            self._stored_as = self.rows.stored_as
        else:
            self.rows, self._added_at, self._stored_as = PlainStore(self.store), None, None

    def _writer(self, rows: RowStore | PlainStore) -> GuardedSession:
        session = self.session
        return GuardedSession(rows.writer(session) if isinstance(rows, RowStore) else session, self.calls)

    def guarded(self, rows: RowStore) -> GuardedRows:
        """Rows whose every call ends in time, and says what is wrong in words of ours."""
        return GuardedRows(rows, self.calls, self.max_row_bytes)

    def cursor(self, keywords: dict[str, Any]) -> Cursor:
        """A walk from the newest row. `keywords` go to a session's own methods."""
        if isinstance(self.rows, PlainStore):
            return self.rows.cursor(keywords)
        return RowCursor(self.rows)

    def classifier(
        self, policy: ReadPolicy | None = None, *, counts: bool = True, asks: bool = True
    ) -> Classifier[Row]:
        """What tells rows apart, by a policy (default: that of this moment). The running operation counts them.

        One that does not ask knows what the ring knows of a key.
        """
        operation = running() if counts else None
        return self._classifying(Classifier[Row], policy or self.policy(), operation, asks=asks)

    def reading_classifier(self, policy: ReadPolicy) -> ReadingClassifier:
        """The same for who wants items."""
        return self._classifying(ReadingClassifier, policy, running())

    def _classifying(
        self, kind: type[_ClassifierT], policy: ReadPolicy, operation: Running | None, *, asks: bool = True
    ) -> _ClassifierT:
        return kind(
            SessionOpeners(self.keychain, asks=asks),
            lambda: policy,
            TimeSlice(),
            self._added_at,
            self.max_row_bytes,
            self.sealing.oldest_suite,
            None if operation is None else operation.judging(),
        )

    def walk(self, keywords: dict[str, Any], *, first: int = 1, then_at_least: int = 1) -> HistoryWalk:
        """A walk through the history that classifies its rows."""
        return HistoryWalk(self.cursor(keywords), self.classifier(), first=first, then_at_least=then_at_least)

    async def read(
        self,
        limit: int | None,
        keywords: dict[str, Any],
        *,
        budget: int | None = None,
    ) -> FoundItems:
        """The latest items and what else was met (`reading.read_items`), from one state of the store."""

        async def attempt() -> FoundItems:
            policy = self.policy()
            classifier = self.reading_classifier(policy)
            return await read_items(self.cursor(keywords), classifier, policy, limit=limit, budget=budget)

        return await start_again_while_it_moves(attempt)

    async def add(self, sealed: list[Any], keywords: dict[str, Any]) -> None:
        """Add what is sealed. The store makes such a change whole or not at all, also when it is cancelled."""
        await self.changes.finish("add_items", self.store.add_items(sealed, **keywords), is_cancelled_too=True)

    async def clear(self, keywords: dict[str, Any]) -> None:
        """Delete all rows, as the store does."""
        await self.changes.finish("clear_session", self.store.clear_session(**keywords), is_cancelled_too=True)

    async def seal(self, items: Sequence[Any], like: Envelope | None = None) -> list[dict[str, Any]]:
        """Envelopes of items under the active key, all with the same times: those of `like`, None for now and the ttl.

        Raises ValueError for an item that would become a row larger than `max_row_bytes`.
        """
        cipher = await self.keychain.active()
        policy = self.policy()
        stamp = policy.now if like is None else like.timestamp
        expires = None if policy.ttl is None else stamp + policy.ttl
        if like is not None and like.says_expires:
            expires = like.expires
        time_slice = TimeSlice()
        # A body is base64: four characters for three bytes, and the rest of a row is short.
        max_bytes = max(0, self.max_row_bytes - _AROUND_BODY) // 4 * 3
        pad = self.sealing.pad
        sealed: list[dict[str, Any]] = []
        for item in items:
            try:
                sealed.append(cipher.seal(item, stamp, expires, max_bytes=max_bytes, pad=pad))
            except TooLongError:
                raise _too_large(self.max_row_bytes) from None
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        operation = running()
        if operation is not None:
            operation.sealed(cipher.kid, len(sealed))
        return sealed if self._stored_as is None else self._stored_as(sealed, items)


def _too_large(max_row_bytes: int) -> ValueError:
    return ValueError(
        f"an item would become a row of more than max_row_bytes={max_row_bytes:,} bytes, which"
        " sessions with this limit cannot read; nothing was written. Give every session of this store a larger"
        " max_row_bytes=, or add a smaller item"
    )


async def start_again_while_it_moves(
    attempt: Callable[[], Awaitable[_T]], most: int = sys.maxsize, *, counts_anew: bool = True
) -> _T:
    """What `attempt` gives, begun again whenever it raises HistoryMovedError: `most` times, where that is less.

    What the running operation has counted in such an attempt counts no more, if it `counts_anew`.

    Raises HistoryChangedError when other writers never left it time to finish.
    """
    attempts = min(_ATTEMPTS, most)
    operation = running() if counts_anew else None
    counted = None if operation is None else operation.tally()
    for _ in range(attempts):
        try:
            return await attempt()
        except HistoryMovedError:
            if operation is not None:
                operation.back_to(counted)
            await asyncio.sleep(0)
    raise HistoryChangedError(
        f"other writers changed the history during each of {attempts} attempts. Nothing was"
        " lost; try again when they are done"
    )
