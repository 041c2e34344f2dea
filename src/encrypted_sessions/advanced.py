"""The wrapper of the SDK's AdvancedSQLiteSession: branches, turns, search and usage, over sealed items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from keyproviders import redact_frames

from . import arguments
from .errors import HistoryChangedError, ScanBudgetError
from .events.listening import running
from .events.telling import told
from .history.results import OutcomeCounts
from .history.sealed_history import SealedHistory
from .history.user_turns import SHOWN, containing, find_turns
from .session import EncryptedSession
from .stores.access import missing_of
from .stores.sizes import MAX_ROW_BYTES
from .stores.sqlite.branch_rows import AllBranches, BranchRows
from .stores.sqlite.structure import problem_of

if TYPE_CHECKING:
    from datetime import datetime

    from agents import RunContextWrapper, TResponseInputItem
    from agents.extensions.memory import AdvancedSQLiteSession
    from agents.result import RunResult

    from keyproviders import KeyRing

    from .events.listening import Hook
    from .stores.plain import PlainStore
    from .stores.rows import RowStore

__all__ = ["EncryptedAdvancedSQLiteSession"]

_T = TypeVar("_T")


class EncryptedAdvancedSQLiteSession(EncryptedSession):
    """Seals every item of an `AdvancedSQLiteSession`, and keeps what that class does.

    Items are sealed as by `EncryptedSession`. What the SDK's class records about their structure is not encrypted:
    role or type, turn, branch, order, names of tools, counts of tokens. Functions that need contents (turns, search,
    a branch from content) open the user's messages of one branch in this process.

    Attributes:
        max_scan_items: How many user messages one listing of turns, or one search, opens at most; None for no limit.
            Reading items has no such limit.
    """

    @redact_frames
    def __init__(
        self,
        session_id: str,
        underlying_session: Any,
        encryption_key: str | KeyRing,
        ttl: int | None = 600,
        max_scan_items: int | None = 10_000,
        **options: Any,
    ) -> None:
        """Check the arguments; no key is asked for.

        Args:
            session_id: As for `EncryptedSession`.
            underlying_session: An `AdvancedSQLiteSession`, or a subclass that stores in the same way. In a file or in
                memory.
            encryption_key: As for `EncryptedSession`.
            ttl: As for `EncryptedSession`.
            max_scan_items: How many user messages one listing of turns, or one search, opens at most; None for no
                limit.
            options: As for `EncryptedSession`, by name.

        Raises:
            TypeError: The session is not an `AdvancedSQLiteSession`, or another argument has the wrong type.
            ValueError: An argument has a value that is not allowed; a subclass of `AdvancedSQLiteSession`, or that of
                the installed Agents SDK, stores in another way.
        """
        _check_session(underlying_session)
        super().__init__(session_id, underlying_session, encryption_key, ttl, **options)
        self.max_scan_items = arguments.max_scan_items(max_scan_items)

    @classmethod
    @redact_frames
    def wrap(
        cls,
        underlying_session: Any,
        keys: KeyRing,
        *,
        ttl: int | None,
        on_unreadable: Literal["raise", "skip"] = "raise",
        plaintext: Literal["raise", "read"] = "raise",
        upstream_key: str | None = None,
        max_scan_items: int | None = 10_000,
        purge_on_add: int = 0,
        shield_s: float = 10.0,
        store_timeout_s: float | None = 30.0,
        max_row_bytes: int = MAX_ROW_BYTES,
        upstream_until: datetime | None = None,
        plaintext_until: datetime | None = None,
        suite: int | None = None,
        oldest_suite: int = 1,
        realm: str = "",
        pad: bool = False,
        on_erased: Literal["skip", "raise"] = "skip",
        on_event: Hook | None = None,
    ) -> EncryptedAdvancedSQLiteSession:
        """Wrap a session under its own id, with a key ring and an explicit ttl.

        Args:
            underlying_session: As for the class.
            keys: The keys to seal and open with.
            ttl: How many seconds an item lives; None for no end.
            on_unreadable: As for `EncryptedSession`; for turns and searches, too.
            plaintext: As for `EncryptedSession`.
            upstream_key: As for `EncryptedSession`.
            max_scan_items: As for the class.
            purge_on_add: As for `EncryptedSession`.
            shield_s: As for `EncryptedSession`.
            store_timeout_s: As for `EncryptedSession`.
            max_row_bytes: As for `EncryptedSession`.
            upstream_until: As for `EncryptedSession`.
            plaintext_until: As for `EncryptedSession`.
            suite: As for `EncryptedSession`.
            oldest_suite: As for `EncryptedSession`.
            realm: As for `EncryptedSession`.
            pad: As for `EncryptedSession`.
            on_erased: As for `EncryptedSession`.
            on_event: As for `EncryptedSession`.

        Returns:
            The wrapper.

        Raises:
            TypeError: As for the class.
            ValueError: As for the class.
        """
        arguments.key_ring(keys, "keys")
        _check_session(underlying_session)
        return cls(
            underlying_session.session_id,
            underlying_session,
            keys,
            ttl,
            max_scan_items,
            on_unreadable=on_unreadable,
            plaintext=plaintext,
            upstream_key=upstream_key,
            purge_on_add=purge_on_add,
            shield_s=shield_s,
            store_timeout_s=store_timeout_s,
            max_row_bytes=max_row_bytes,
            upstream_until=upstream_until,
            plaintext_until=plaintext_until,
            suite=suite,
            oldest_suite=oldest_suite,
            realm=realm,
            pad=pad,
            on_erased=on_erased,
            on_event=on_event,
        )

    @redact_frames
    @told()
    async def get_items(
        self,
        limit: int | None = None,
        branch_id: str | None = None,
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002 - the SDK's class takes none
    ) -> list[TResponseInputItem]:
        """The latest readable items of a branch, as `EncryptedSession.get_items` has them.

        Args:
            limit: As for `EncryptedSession`.
            branch_id: The branch; None for the current one. A branch that does not exist has no items.
            wrapper: The SDK's wrapper. Its AdvancedSQLiteSession does not accept one.

        Returns:
            The items as they were added, oldest first.

        Raises:
            UnreadableItemsError: Rows cannot be read; not under on_unreadable="skip".
            HistoryChangedError: Other writers changed the history during every attempt.
            StoreError: The store failed, as for `EncryptedSession.get_items`.
            KeyProviderError: The key provider cannot answer.
            TypeError: `limit` is not an int, or `branch_id` is not a str.
            ValueError: `limit` is negative.
        """
        limit = self._limit(limit)
        if limit == 0:
            return []
        history, _ = await self._of_branch(branch_id)
        found = await history.read(limit, {})
        self._report(found.counts, limit)
        return found.items  # type: ignore[return-value]  # what was sealed was an item

    # -- Turns and search -------------------------------------------------------------------

    @redact_frames
    @told()
    async def get_conversation_turns(self, branch_id: str | None = None) -> list[dict[str, Any]]:
        """The user's turns of a branch, oldest first.

        Args:
            branch_id: The branch; None for the current one.

        Returns:
            For each turn `turn` (its number in the branch), `content` (100 characters of it), `full_content`,
            `timestamp` (when it was added, as SQLite writes it, in UTC) and `can_branch` (True). Turns whose
            question has expired are left out.

        Raises:
            ScanBudgetError: The branch has more than `max_scan_items` user messages; `found` has the turns of those.
            UnreadableItemsError: A user message cannot be read; not under on_unreadable="skip".
            StoreError: The store failed, as in `get_items`.
            KeyProviderError: The key provider cannot answer.
            TypeError: `branch_id` is not a str.
        """
        return await self._turns(branch_id, shown=SHOWN)

    @redact_frames
    @told()
    async def find_turns_by_content(self, search_term: str, branch_id: str | None = None) -> list[dict[str, Any]]:
        """The user's turns of a branch whose text contains `search_term`, oldest first.

        ASCII letters match in either case, all other characters exactly. There are no wild cards. An empty term
        matches every text.

        Args:
            search_term: What to look for.
            branch_id: The branch; None for the current one.

        Returns:
            As `get_conversation_turns`, with the whole text as `content`.

        Raises:
            ScanBudgetError: As for `get_conversation_turns`.
            UnreadableItemsError: As for `get_conversation_turns`.
            StoreError: The store failed, as in `get_items`.
            KeyProviderError: The key provider cannot answer.
            TypeError: An argument is not a str.
        """
        return await self._turns(branch_id, wanted=containing(_text(search_term, "search_term")))

    @redact_frames
    async def get_conversation_by_turns(self, branch_id: str | None = None) -> dict[int, list[dict[str, str | None]]]:
        """The structure of a branch: for each turn's number, the type and the tool's name of each of its rows.

        Nothing is opened for this, so expired rows are included until they are purged.

        Args:
            branch_id: The branch; None for the current one.

        Returns:
            Turns by number; each row as a dict of `type` and `tool_name`.

        Raises:
            StoreError: The store failed, as in `get_items`.
            TypeError: `branch_id` is not a str.
        """
        return await self._ask("read turns", self._sdk_session.get_conversation_by_turns, _branch(branch_id))

    @redact_frames
    async def get_tool_usage(self, branch_id: str | None = None) -> list[tuple[str, int, int]]:
        """How often each tool was called, by turn.

        Args:
            branch_id: The branch; None for the current one.

        Returns:
            For each tool and turn: the tool's name, the number of its calls, and the turn's number.

        Raises:
            StoreError: The store failed, as in `get_items`.
            TypeError: `branch_id` is not a str.
        """
        return await self._ask("read the use of tools", self._sdk_session.get_tool_usage, _branch(branch_id))

    # -- Branches ---------------------------------------------------------------------------

    @redact_frames
    @told(changes=True)
    async def create_branch_from_turn(self, turn_number: int, branch_name: str | None = None) -> str:
        """Create a branch of what came before a turn of the current branch, and switch to it.

        It shares the rows of the first branch: nothing is sealed again.

        Args:
            turn_number: The turn's number in the current branch.
            branch_name: Its name, which no branch of this session may have had before; None to generate one.

        Returns:
            The branch's name.

        Raises:
            ValueError: There is no such turn, or the name is blank or taken.
            StoreError: The store failed, as in `add_items`.
            TypeError: `turn_number` is not an int, or `branch_name` is not a str.
        """
        if type(turn_number) is not int:
            raise TypeError(f"turn_number must be an int, not {arguments.kind_of(turn_number)}")
        name = None if branch_name is None else _text(branch_name, "branch_name")
        return await self._change("make a branch", self._sdk_session.create_branch_from_turn, turn_number, name)

    @redact_frames
    @told(changes=True)
    async def create_branch_from_content(self, search_term: str, branch_name: str | None = None) -> str:
        """Create a branch of what came before the first turn whose text contains `search_term`, and switch to it.

        Args:
            search_term: What to look for, as in `find_turns_by_content`.
            branch_name: As for `create_branch_from_turn`.

        Returns:
            The branch's name.

        Raises:
            ValueError: No turn contains it, or the name is blank or taken.
            ScanBudgetError: The first `max_scan_items` user messages do not contain it, and there are more.
            HistoryChangedError: Another task switched to another branch meanwhile, where the turn is a different one.
            UnreadableItemsError: A user message before the first that contains it cannot be read; not under
                on_unreadable="skip".
            StoreError: The store failed, as in `add_items`.
            KeyProviderError: The key provider cannot answer.
            TypeError: An argument is not a str.
        """
        wanted = containing(_text(search_term, "search_term"))
        rows = BranchRows(self._sdk_session)
        turns = await self._turns(None, wanted=wanted, first_alone=True)
        if not turns:
            raise ValueError("No user turns found containing the search term in the current branch")
        if rows.have_been_left():
            raise HistoryChangedError(
                "the session switched to another branch while this one was searched; no branch was created. Try again"
            )
        return await self.create_branch_from_turn(turns[0]["turn"], branch_name)

    @redact_frames
    @told(changes=True)
    async def switch_to_branch(self, branch_id: str) -> None:
        """Switch to another branch.

        Args:
            branch_id: The branch.

        Raises:
            ValueError: There is no such branch.
            StoreError: The store failed, as in `add_items`.
            TypeError: `branch_id` is not a str.
        """
        await self._change("switch to a branch", self._sdk_session.switch_to_branch, _text(branch_id, "branch_id"))

    @redact_frames
    async def list_branches(self) -> list[dict[str, Any]]:
        """The session's branches, the oldest first.

        Returns:
            For each branch: `branch_id`, `message_count`, `user_turns`, `is_current` and `created_at`.

        Raises:
            StoreError: The store failed, as in `get_items`.
        """
        return await self._ask("list branches", self._sdk_session.list_branches)

    @redact_frames
    @told(changes=True)
    async def delete_branch(self, branch_id: str, force: bool = False) -> None:  # noqa: FBT001, FBT002 - the SDK's
        """Delete a branch, and those of its rows that no other branch has. Its name cannot be used again.

        Args:
            branch_id: The branch, which is not `main`.
            force: Whether the current branch may be deleted; `main` then becomes the current one.

        Raises:
            ValueError: There is no such branch, it is `main`, or it is the current one and `force` is False.
            StoreError: The store failed, as in `add_items`.
            TypeError: `branch_id` is not a str.
        """
        operation = running()
        if operation is not None:
            operation.removing()  # how many rows, the SDK's class does not say
        await self._change("delete a branch", self._sdk_session.delete_branch, _text(branch_id, "branch_id"), force)

    # -- Usage ------------------------------------------------------------------------------

    @redact_frames
    @told(changes=True)
    async def store_run_usage(self, result: RunResult) -> None:
        """Record how many tokens a run used, for the current turn. As in the SDK's class, failures are only logged.

        Args:
            result: What `Runner.run` returned.

        Raises:
            StoreTimeoutError: The store did not answer in time.
        """
        await self._change("note usage", self._sdk_session.store_run_usage, result)

    @redact_frames
    async def get_session_usage(self, branch_id: str | None = None) -> dict[str, int] | None:
        """The tokens that one branch, or all branches, used.

        Args:
            branch_id: The branch, None for all.

        Returns:
            `requests`, `input_tokens`, `output_tokens`, `total_tokens` and `total_turns`; None if nothing is
                recorded.

        Raises:
            StoreError: The store failed, as in `get_items`.
            TypeError: `branch_id` is not a str.
        """
        return await self._ask("read usage", self._sdk_session.get_session_usage, _branch(branch_id))

    @redact_frames
    async def get_turn_usage(
        self, user_turn_number: int | None = None, branch_id: str | None = None
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """The tokens that the turns of a branch used.

        Args:
            user_turn_number: The turn, None for all.
            branch_id: The branch; None for the current one.

        Returns:
            For each turn: its number, `requests`, `input_tokens`, `output_tokens`, `total_tokens`,
            `input_tokens_details` and `output_tokens_details`; for a single turn only these, or {} if nothing is
                recorded.

        Raises:
            StoreError: The store failed, as in `get_items`.
            TypeError: `user_turn_number` is not an int, or `branch_id` is not a str.
        """
        if user_turn_number is not None and type(user_turn_number) is not int:
            raise TypeError(f"user_turn_number must be an int or None, not {arguments.kind_of(user_turn_number)}")
        return await self._ask("read usage", self._sdk_session.get_turn_usage, user_turn_number, _branch(branch_id))

    # -- How it is done ---------------------------------------------------------------------

    @property
    def _sdk_session(self) -> AdvancedSQLiteSession:
        return self.underlying_session  # type: ignore[no-any-return]  # `_check_session` has looked

    @staticmethod
    def _rows_beneath(session: Any) -> RowStore | PlainStore:
        """Of all branches, which is what purging works on. Any other call has the rows of one (`_begin`)."""
        return AllBranches(session)

    @staticmethod
    def _has_single_rows(session: Any) -> bool:  # noqa: ARG004 - always
        return True

    async def _begin(self) -> SealedHistory:
        history, _ = await self._of_branch(None)
        return history

    async def _of_branch(self, branch_id: str | None) -> tuple[SealedHistory, BranchRows]:
        # Noted before anything is waited for, so that another task that switches does not change what is meant.
        rows = BranchRows(self._sdk_session, _branch(branch_id))
        await super()._begin()
        return self._sealed.over(rows), rows

    async def _turns(
        self,
        branch_id: str | None,
        *,
        wanted: Callable[[object], bool] | None = None,
        shown: int | None = None,
        first_alone: bool = False,
    ) -> list[dict[str, Any]]:
        history, rows = await self._of_branch(branch_id)
        counts = OutcomeCounts()
        exceeded: ScanBudgetError | None = None
        try:
            turns = await find_turns(
                history,
                rows,
                counts,
                wanted=wanted,
                shown=shown,
                first_alone=first_alone,
                budget=self.max_scan_items,
            )
        except ScanBudgetError as error:
            turns, exceeded = [], error
        # What cannot be read comes first: what was found is not without gaps then.
        self._report(counts, None, counted_from="the branch's first user message")
        if exceeded is not None:
            raise exceeded
        return turns

    async def _ask(self, asked: str, method: Callable[..., Awaitable[_T]], *given: Any) -> _T:
        """What the SDK's class knows without a look at contents."""
        await super()._begin()
        return await self._sealed.calls.read(asked, method, *given, in_place=True)

    async def _change(self, asked: str, method: Callable[..., Awaitable[_T]], *given: Any) -> _T:
        """What the SDK's class changes without a look at contents."""
        await super()._begin()
        change = self._sealed.calls.change(asked, method, *given)
        return await self._sealed.changes.finish(method.__name__, change, is_cancelled_too=True)

    def __repr__(self) -> str:
        return f"EncryptedAdvancedSQLiteSession(session_id={self.session_id!r}, ttl={self.ttl})"


def _check_session(session: Any) -> None:
    try:
        from agents.extensions.memory import AdvancedSQLiteSession  # noqa: PLC0415 - the SDK is an extra
    except ImportError:
        is_one = False
    else:
        is_one = isinstance(session, AdvancedSQLiteSession)
    if not is_one:
        raise TypeError(
            "underlying_session must be an AdvancedSQLiteSession of the Agents SDK, not"
            f" {arguments.kind_of(session)}. EncryptedSession wraps any other session"
        )
    missing = missing_of(AllBranches, session)
    if missing:
        raise ValueError(
            f"the AdvancedSQLiteSession of the installed Agents SDK has no {', '.join(missing)}: this release of"
            " encrypted-sessions does not support the way it stores items. Upgrade encrypted-sessions"
        )
    problem = problem_of(session, AdvancedSQLiteSession)
    if problem is not None:
        raise ValueError(problem)


def _branch(value: str | None) -> str | None:
    return None if value is None else _text(value, "branch_id")


def _text(value: str, argument: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {arguments.kind_of(value)}")
    return value
