"""The wrapper: any session of the Agents SDK, with every item sealed before it is stored."""

from __future__ import annotations

import inspect
import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from keyproviders import redact_frames

from . import arguments, sealing_arguments
from ._support.warnings import warn_caller
from .core.outcomes import PASSED_OVER
from .events.listening import LISTENING, Hook
from .events.telling import told, told_function
from .history.classified import ReadPolicy
from .history.results import History, OutcomeCounts
from .history.sealed_history import SealedHistory
from .history.session_log import SessionLog
from .history.shielded import ShieldedChanges
from .session_keys import keychain_of
from .stores.access import has_rows, store_beneath
from .stores.plain import METHODS, accepts_wrapper, settings_limit
from .stores.registry import wrapper_of_class
from .stores.sizes import MAX_ROW_BYTES

if TYPE_CHECKING:
    from datetime import datetime

    from agents import RunContextWrapper, TResponseInputItem
    from agents.memory import OpenAIResponsesCompactionArgs, SessionSettings

    from keyproviders import KeyRing

    from .history.compaction import Compaction
    from .stores.plain import PlainStore
    from .stores.rows import RowStore

__all__ = ["EncryptedSession"]

logger = logging.getLogger("encrypted_sessions")

#: What the SDK's Runner, and who compacts by hand, look for on a session that compacts.
_COMPACTION_HOOKS = frozenset(
    {
        "_add_items_with_generation",
        "_clear_deferred_compaction",
        "_defer_compaction",
        "_get_deferred_compaction_response_id",
        "_get_items_with_generation",
        "run_compaction",
    }
)

#: From so many on, expired items that were read and left out are worth telling.
_EXPIRED_WORTH_A_WARNING = 1000

#: After a purge_on_add that failed, the session makes no other for so long.
_PURGE_REST_S = 60


_WITHOUT_ERASED = (
    "To go on without them: on_erased='skip', and on_unreadable='skip' for any other; or read(), which returns what can"
    " be read and names the rest."
)


def _now() -> float:
    """The wall clock, seconds since 1970."""
    return time.time()


class EncryptedSession:
    """Seals every item of another session with a key of its own, and lets it expire.

    Sealed with AES-128-CBC and HMAC-SHA256 (Fernet), or with AES-256-GCM (suite 2), under a key that HKDF-SHA256
    derives from the master key and the session id. Stored rows show sizes, counts, times, session ids and key ids.

    Rows that cannot be read raise `UnreadableItemsError` or are left out, and are never deleted.

    Attributes:
        max_scan_items: How many rows one `get_items` fetches at most; None for no limit.
    """

    max_scan_items: int | None

    @redact_frames
    def __init__(
        self,
        session_id: str,
        underlying_session: Any,
        encryption_key: str | KeyRing,
        ttl: int | None = 600,
        max_scan_items: int | None = None,
        *,
        on_unreadable: Literal["raise", "skip"] = "raise",
        plaintext: Literal["raise", "read"] = "raise",
        upstream_key: str | None = None,
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
    ) -> None:
        """Check the arguments, without I/O. No key is requested.

        Warns `WeakKeyWarning` for a string as a key that is not 32 random bytes in base64, and `LongSessionIdWarning`
        for a session id of more than 64 bytes of UTF-8. A strict key ring, and `ENCRYPTED_SESSIONS_STRICT=1`, make
        both a ValueError. In MySQL or MariaDB, tables whose ids are not binary cause, at the first use, a
        UserWarning, or a StoreConfigError if strict.

        Args:
            session_id: The id for which items are sealed: not empty, without NUL and lone surrogates.
            underlying_session: What stores the sealed items: any object with `session_id`, `get_items`, `add_items`,
                `pop_item` and `clear_session`. The wrapper itself is such an object. Around an
                `OpenAIResponsesCompactionSession` it seals between that session and its store, and compacts.
            encryption_key: A `KeyRing`, or a string, which seals in the format of the Agents SDK's own class.
            ttl: How many seconds an item lives; None for no end. It must be longer than a run may wait for an
                approval.
            max_scan_items: How many rows one `get_items` fetches at most; None for no limit.
            on_unreadable: "raise", or "skip" to leave out rows that cannot be read, with a warning in the log.
            plaintext: "raise", or "read" to return rows that were never encrypted, during a migration.
            upstream_key: The string that the SDK's class used as its key, to read its rows beside those of a key
                ring.
            purge_on_add: How many expired rows (at most 256), the oldest first, are removed after each `add_items`.
            shield_s: How many seconds a cancelled call waits for its store to finish, 0 or more. Then the call ends;
                if it was a change, its `CancelledError` has a `StoreTimeoutError` as its cause, the change continues,
                and the session's next call waits for it.
            store_timeout_s: How many seconds the store has to answer each statement or page; None for no limit. After
                that, the call raises `StoreTimeoutError`. A change continues, and the session's next call waits for
                it.
            max_row_bytes: The size in bytes of the largest row that is read or written: by default 64 MiB, at least
                4,096. A larger row is `too_large`.
            upstream_until: When the last process that writes with `upstream_key` was switched over: later rows of the
                SDK's class are `unauthentic`. None for no end.
            plaintext_until: The end of plaintext="read": rows that were added later are refused, by the row's own
                time if the store has one, else by the clock. None for no end.
            suite: The suite that seals items: 1 (Fernet) or 2 (AES-256-GCM, which needs a `KeyRing`); None for 1.
            oldest_suite: 2 to open no rows of suite 1, including the SDK's rows: they are `outdated`.
            realm: The environment or tenant, which suite 2 binds into its keys: at most 1,024 bytes of UTF-8. Rows
                that were sealed in another realm do not open.
            pad: Whether items are padded with blanks, which hides their length: to at least 256 bytes, by at most 12
                % more.
            on_erased: "skip" to leave out rows whose key was destroyed, or "raise", whatever `on_unreadable` is: for
                stores whose keys are never destroyed on purpose.
            on_event: Called with a `SessionEvent` after each operation, in its task. Its errors are logged.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument has a value that is not allowed.
            ProviderConfigError: `ENCRYPTED_SESSIONS_STRICT` is set to neither 1 nor 0.
        """
        _know_signatures()
        self._session_id = arguments.session_id(session_id)
        underlying_session, self._compaction_beneath = arguments.underlying_session(underlying_session)
        self._underlying_session = underlying_session
        self._ttl = arguments.ttl(ttl)
        self.max_scan_items = arguments.max_scan_items(max_scan_items)
        self._skip = arguments.choice(on_unreadable, "on_unreadable", arguments.ON_UNREADABLE) == "skip"
        self._read_plaintext = arguments.choice(plaintext, "plaintext", arguments.PLAINTEXT) == "read"
        self._plaintext_until = arguments.moment(plaintext_until, "plaintext_until")
        if plaintext_until is not None and not self._read_plaintext:
            raise ValueError('plaintext_until goes with plaintext="read"')
        self._upstream_until = arguments.moment(upstream_until, "upstream_until")
        if upstream_until is not None and upstream_key is None:
            raise ValueError("upstream_until goes with upstream_key")
        self._purge_on_add = arguments.purge_on_add(purge_on_add)
        if purge_on_add and not self._has_single_rows(underlying_session):
            raise ValueError(
                f"purge_on_add needs a store that can remove single rows, which {type(underlying_session).__name__}"
                " cannot: see SECURITY.md, 'Stores'. Leave purge_on_add at 0"
            )
        self._on_event = arguments.on_event(on_event)
        self._takes_wrapper = accepts_wrapper(underlying_session)
        raises_erased = arguments.choice(on_erased, "on_erased", arguments.ON_ERASED) == "raise"
        sealing = sealing_arguments.sealing(suite, oldest_suite, realm, pad, encryption_key, upstream_key)
        keychain = keychain_of(encryption_key, upstream_key, self.session_id, sealing)
        log = SessionLog(self._session_id, type(underlying_session).__name__, keychain.advice)
        self._sealed = SealedHistory(
            self._session_id,
            underlying_session,
            self._rows_beneath(underlying_session),
            keychain,
            self._policy,
            ShieldedChanges(arguments.shield_s(shield_s), arguments.store_timeout_s(store_timeout_s), log),
            log,
            arguments.max_row_bytes(max_row_bytes),
            sealing=sealing,
            passed_over=[one for one in PASSED_OVER if not (raises_erased and one == "erased")],
        )
        self._shield_s = float(shield_s)
        self._compactor: Compaction | None = None
        self._already_logged: set[str] = set()
        self._purge_again_at = 0.0
        if underlying_session.session_id != session_id:
            warn_caller(
                f"the wrapper's session id {session_id!r} is not its store's"
                f" {underlying_session.session_id!r}: rows would be stored under one id and"
                " sealed for the other. EncryptedSession.wrap(store, ...) uses the store's id",
                UserWarning,
            )

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
    ) -> EncryptedSession:
        """Wrap a session under its own id, with a key ring and an explicit ttl.

        Args:
            underlying_session: What stores the sealed items, and has the id. As for the class.
            keys: The keys to seal and open with.
            ttl: How many seconds an item lives; None for no end.
            on_unreadable: As for the class.
            plaintext: As for the class.
            upstream_key: As for the class.
            purge_on_add: As for the class.
            shield_s: As for the class.
            store_timeout_s: As for the class.
            max_row_bytes: As for the class.
            upstream_until: As for the class.
            plaintext_until: As for the class.
            suite: As for the class.
            oldest_suite: As for the class.
            realm: As for the class.
            pad: As for the class.
            on_erased: As for the class.
            on_event: As for the class.

        Returns:
            The wrapper.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument has a value that is not allowed.
        """
        arguments.key_ring(keys, "keys")
        arguments.underlying_session(underlying_session)
        return cls(
            underlying_session.session_id,
            underlying_session,
            keys,
            ttl,
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

    # -- The Agents SDK's session -----------------------------------------------------------

    @redact_frames
    @told()
    async def get_items(
        self, limit: int | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> list[TResponseInputItem]:
        """The latest readable items.

        Expired items are left out, and so are outputs whose tool call was left out. With a limit, the search ends
        after 64 consecutive rows that expired more than two minutes ago.

        Args:
            limit: How many items to return at most, 0 or more. None for the underlying session's
                `session_settings.limit`; without that, all.
            wrapper: The SDK's wrapper, passed on to a store that accepts it.

        Returns:
            The items as they were added, oldest first.

        Raises:
            UnreadableItemsError: Rows cannot be read; not under on_unreadable="skip".
            ScanBudgetError: `max_scan_items` rows were read and the answer is not complete.
            HistoryChangedError: Other writers changed the history during every attempt.
            StoreError: The store failed: `StoreTimeoutError` if it did not answer in time, `StoreUnavailableError` if
                it may work later. The error is also an instance of the driver's own class.
            KeyProviderError: The key provider cannot answer.
            TypeError: `limit` is not an int.
            ValueError: `limit` is negative.
        """
        limit = self._limit(limit)
        if limit == 0:
            return []
        if self._compaction_beneath is not None:
            return await self._through_compaction("get_items", limit, wrapper=wrapper)  # type: ignore[no-any-return]  # the SDK's
        history = await self._begin()
        found = await history.read(limit, self._keywords(wrapper), budget=self.max_scan_items)
        if not found.counts.are_ok():
            self._report(found.counts, limit)
        return found.items  # type: ignore[return-value]  # what was sealed was an item

    @redact_frames
    @told()
    async def read(self, limit: int | None = None) -> History:
        """Return what can be read, and a count of everything that was found. No row causes an error.

        Args:
            limit: As in `get_items`.

        Returns:
            The items, the counts, and up to 20 findings.

        Raises:
            HistoryChangedError: Other writers changed the history during every attempt.
            StoreError: The store failed, as in `get_items`.
            KeyProviderError: The key provider cannot answer.
            TypeError: `limit` is not an int.
            ValueError: `limit` is negative.
        """
        limit = self._limit(limit)
        if limit == 0:
            return History([], OutcomeCounts().outcomes(), ())
        history = await self._begin()
        found = await history.read(limit, {})
        history.log.passed_over(found.counts, history.passed_over)
        return History(
            found.items,  # type: ignore[arg-type]  # what was sealed was an item
            found.counts.outcomes(),
            tuple(found.counts.findings),
        )

    @redact_frames
    @told(changes=True)
    async def add_items(
        self,
        items: list[TResponseInputItem],
        *,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> None:
        """Seal and store items. Items that are added together have the same timestamp, and expire together.

        With `purge_on_add`, some of the oldest expired rows are removed afterwards. Errors of that are only logged.

        Args:
            items: Dicts or Pydantic models, oldest first.
            wrapper: The SDK's wrapper, passed on to a store that accepts it.

        Raises:
            TypeError: JSON cannot represent an item exactly; nothing was written.
            ValueError: An item would become a row larger than `max_row_bytes`; nothing was written.
            StoreError: The store failed, as for `get_items`; after a `StoreTimeoutError` that leaves it in doubt, the
                items may still be written.
            KeyProviderError: The key provider has no active key; nothing was written.
        """
        batch = arguments.items(items)
        if self._compaction_beneath is not None:
            await self._through_compaction("add_items", batch, wrapper=wrapper)
            return
        history = await self._begin()
        if batch:
            batch = await history.seal(batch)
        await history.add(batch, self._keywords(wrapper))
        if self._purge_on_add:
            await self._purge_head()

    @redact_frames
    @told(changes=True)
    async def pop_item(self, *, wrapper: RunContextWrapper[Any] | None = None) -> TResponseInputItem | None:
        """Remove and return the latest item. Expired rows at the tail are removed with it.

        Args:
            wrapper: The SDK's wrapper, passed on to a store that accepts it.

        Returns:
            The item; None if there is none.

        Raises:
            UnreadableItemsError: The latest row cannot be read, and stays, even with on_unreadable="skip".
            PutBackError: A store without addressable rows did not accept back an item that could not be returned.
            HistoryChangedError: Other writers changed the end of the history during every attempt.
            StoreError: The store failed, as in `get_items`. An item that a `StoreTimeoutError` leaves `in_doubt` is
                put back.
            KeyProviderError: The key provider cannot answer.
        """
        if self._compaction_beneath is not None:
            return await self._through_compaction("pop_item", wrapper=wrapper)  # type: ignore[no-any-return]  # the SDK's
        history = await self._begin()
        from .history.popping import pop  # noqa: PLC0415 - few sessions pop

        return await pop(history, self._keywords(wrapper))  # type: ignore[return-value]  # what was sealed was an item

    @redact_frames
    @told(changes=True)
    async def purge_expired(self) -> int:
        """Remove the session's expired rows from the store.

        Only authentic, expired rows are removed, at any position, and each row only if it is unchanged. Rows that
        cannot be opened stay. So does an expired tool call whose output has not expired, or may become readable.
        Without a ttl, only rows of suite 2 expire, by their writer's ttl. The call can be stopped at any time, and
        repeated.

        Returns:
            How many rows were removed.

        Raises:
            PurgeRefusedError: The store has expired rows, but cannot remove single rows.
            HistoryChangedError: Other writers changed the history during every attempt.
            StoreError: The store failed, as in `get_items`.
            KeyProviderError: The key provider cannot answer; what was removed until then stays removed.
        """
        await self._begin()
        from .history.purging import purge  # noqa: PLC0415 - few sessions purge

        return await purge(self._sealed)

    @redact_frames
    @told(changes=True)
    async def clear_session(self, *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """Delete all rows of the session, as the store does.

        Args:
            wrapper: The SDK's wrapper, passed on to a store that accepts it.

        Raises:
            StoreError: The store failed, as in `get_items`.
        """
        if self._compaction_beneath is not None:
            await self._through_compaction("clear_session", wrapper=wrapper)
            return
        history = await self._begin()
        await history.clear(self._keywords(wrapper))

    @property
    def underlying_session(self) -> Any:
        """The session that stores the sealed items, even if it was given inside a compaction session."""
        return self._underlying_session

    if TYPE_CHECKING:
        # The SDK's `Session` declares attributes, and pyright takes no property for one.
        session_id: str
        session_settings: SessionSettings | None
    else:

        @property
        def session_id(self) -> str:
            """The id that the items are sealed for."""
            return self._session_id

        @session_id.setter
        def session_id(self, _: str) -> NoReturn:
            raise AttributeError("session_id cannot be changed: stored items are sealed for it. Make another wrapper")

        @property
        def session_settings(self) -> SessionSettings | None:
            """The underlying session's settings, or those of a compaction session that was given, if it has any."""
            own = getattr(self._compaction_beneath, "session_settings", None)
            return getattr(self.underlying_session, "session_settings", None) if own is None else own

        @session_settings.setter
        def session_settings(self, value: SessionSettings | None) -> None:
            beneath = self._compaction_beneath
            (self.underlying_session if beneath is None else beneath).session_settings = value

    @property
    def ttl(self) -> int | None:
        """How many seconds an item lives; None for no end."""
        return self._ttl

    @ttl.setter
    def ttl(self, value: int | None) -> None:
        self._ttl = arguments.ttl(value)

    # -- Around a compaction session --------------------------------------------------------

    if TYPE_CHECKING:

        async def run_compaction(
            self,
            args: OpenAIResponsesCompactionArgs | None = None,
            *,
            wrapper: RunContextWrapper[Any] | None = None,
        ) -> None:
            """As the compaction session's. Only where one was given: the SDK takes any session that has it for one."""

    @property
    def _compaction_above(self) -> Any:
        """The compaction session that was given, around the part of this session that seals and stores."""
        if self._compaction_beneath.underlying_session is not self.underlying_session:
            raise RuntimeError(
                f"the {type(self._compaction_beneath).__name__} that was wrapped has another underlying_session"
                " now. Make another wrapper"
            )
        from .history.compaction_session import compaction_around  # noqa: PLC0415 - few sessions compact

        sealing = object.__new__(_Sealing)
        sealing.__dict__ = self.__dict__
        sealing._compaction_beneath = None
        sealing._whole = self
        return compaction_around(sealing, self._compaction_beneath)

    async def _through_compaction(self, method: str, *given: Any, wrapper: RunContextWrapper[Any] | None) -> Any:
        """Call a method of the compaction session, which calls the same of what it has beneath."""
        compaction = self._compaction_above
        keywords = {"wrapper": wrapper} if wrapper is not None and accepts_wrapper(compaction) else {}
        return await getattr(compaction, method)(*given, **keywords)

    # -- What the SDK's compaction looks for ------------------------------------------------

    @redact_frames
    @told(name="run_compaction")
    async def _read_compaction_items(
        self, limit: int | None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> tuple[list[Any], bool]:
        history = await self._begin()
        return await self._compaction(history).read(limit, self._limit(None), self._keywords(wrapper))

    @redact_frames
    @told(name="run_compaction")
    async def _get_compaction_snapshot(self, limit: int, **_: Any) -> Any:
        history = await self._begin()
        snapshot = await self._compaction(history).snapshot(limit)
        if snapshot is None or not LISTENING.is_on:
            return snapshot
        return snapshot._replace(replace_suffix=told_function(self, "run_compaction", snapshot.replace_suffix))

    @redact_frames
    @told(name="run_compaction", changes=True)
    async def _atomic_replace_items(self, items: list[Any]) -> bool:
        history = await self._begin()
        return await self._compaction(history).replace_all(items)

    def _compaction(self, history: SealedHistory) -> Compaction:
        if self._compactor is None or self._compactor.history is not history:
            from .history.compaction import Compaction  # noqa: PLC0415 - few sessions compact

            self._compactor = Compaction(history)
        return self._compactor

    @property
    def _ignore_ids_for_matching(self) -> bool:
        return bool(getattr(self.underlying_session, "_ignore_ids_for_matching", False))

    # -- Purging ----------------------------------------------------------------------------

    async def _purge_head(self) -> None:
        """Remove what `purge_on_add` asks for. Items were added: no error comes from here."""
        from .history.purging import purge_head  # noqa: PLC0415 - as in `purge_expired`

        if time.monotonic() < self._purge_again_at:
            return
        try:
            await purge_head(self._sealed, self._purge_on_add)
        except Exception as error:  # noqa: BLE001 - whatever the provider or the store raises
            # Each attempt may wait for its provider or store as long as they let it.
            self._purge_again_at = time.monotonic() + _PURGE_REST_S
            # Not the error's words: a database's may hold rows.
            logger.warning(
                "purge_on_add removed no expired rows (%s); the items were added. The next attempt is made in %d s",
                type(error).__name__,
                _PURGE_REST_S,
            )

    # -- Beginning --------------------------------------------------------------------------

    @staticmethod
    def _rows_beneath(session: Any) -> RowStore | PlainStore:
        """The access to the rows of the session that stores."""
        better = wrapper_of_class(type(session))
        if better is not None:
            warn_caller(
                f"EncryptedSession supports {type(session).__name__} only as a plain chat: turns and search return"
                f" nothing, branches cannot be created, and usage is counted wrongly. {better} supports all of it",
                UserWarning,
            )
        return store_beneath(session)

    @staticmethod
    def _has_single_rows(session: Any) -> bool:
        return has_rows(session)

    async def _begin(self) -> SealedHistory:
        """The history that a call works on, to its end.

        Before that, wait for what an earlier call that was given up has left behind; at the first, look at the store.
        """
        if not self._sealed.changes.are_settled():
            await self._sealed.changes.settle()
        if self._sealed.is_unexamined:
            await self._sealed.examine()
        return self._sealed

    # -- Reading ----------------------------------------------------------------------------

    def _limit(self, limit: int | None) -> int | None:
        return arguments.limit(settings_limit(self) if limit is None else limit)

    def _policy(self) -> ReadPolicy:
        return ReadPolicy(
            int(_now()),
            self._ttl,
            read_plaintext=self._read_plaintext,
            plaintext_until=self._plaintext_until,
            upstream_until=self._upstream_until,
        )

    def _report(self, counts: OutcomeCounts, limit: int | None, **words: str) -> None:
        """Raise or log what was not read; `words` go into the error's message."""
        log = self._sealed.log
        log.passed_over(counts, self._sealed.passed_over)
        refused = counts.refused
        erased = 0 if "erased" in self._sealed.passed_over else counts.count("erased")
        if erased:
            raise log.refusal(counts, {"erased": erased, **refused}, **{"ways_out": _WITHOUT_ERASED, **words})
        if refused:
            if not self._skip:
                raise log.refusal(counts, refused, **words)
            log.left_out(counts, refused)
        expired = counts.count("expired")
        if limit is None and expired > _EXPIRED_WORTH_A_WARNING and self._first_time("expired"):
            logger.warning("%d expired items were read and left out; purge_expired() removes them", expired)

    def _first_time(self, subject: str) -> bool:
        first = subject not in self._already_logged
        self._already_logged.add(subject)
        return first

    def _keywords(self, wrapper: RunContextWrapper[Any] | None) -> dict[str, Any]:
        return {"wrapper": wrapper} if wrapper is not None and self._takes_wrapper else {}

    # -- An object that gives nothing away --------------------------------------------------

    def __repr__(self) -> str:
        store = type(self.underlying_session).__name__
        return f"EncryptedSession(session_id={self.session_id!r}, store={store}, ttl={self._ttl})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("an EncryptedSession holds keys and cannot be pickled or copied; create one where it is needed")

    if not TYPE_CHECKING:  # a type checker shall know the attributes there are, and no others

        def __getattr__(self, name: str) -> Any:
            if name in _COMPACTION_HOOKS and self._compaction_beneath is not None:
                found = getattr(self._compaction_above, name)
                if name != "run_compaction":
                    return found
                from .history.compaction_session import let_go_when_cancelled  # noqa: PLC0415 - as above

                run = let_go_when_cancelled(found, self._shield_s, self._compaction(self._sealed).break_off)
                return told_function(self, name, run)
            message = f"EncryptedSession has no attribute {name!r}"
            beneath = self.__dict__.get("_underlying_session")
            if not name.startswith("__") and hasattr(beneath, name):
                message += f"; use session.underlying_session.{name}, which sees sealed items"
            raise AttributeError(message)


class _Sealing(EncryptedSession):
    """What a compaction session has beneath it: the same session, of which all attributes are one and the same."""

    # A slot comes before the attribute of that name in the `__dict__`, which is that of the whole session.
    __slots__ = ("_compaction_beneath", "_whole")

    _whole: EncryptedSession

    async def _read_compaction_items(
        self, limit: int | None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> tuple[list[Any], bool]:
        found = await super()._read_compaction_items(limit, wrapper=wrapper)
        if limit is None and type(self._whole).get_items is not EncryptedSession.get_items:
            # A class made from this one may show less of a history. As with the SDK's, that is what compaction goes by.
            return await self._whole.get_items(), False
        return found


@cache
def _know_signatures() -> None:
    """Work out once what the SDK's Runner asks several times on every turn, 75 us each time."""
    for method in METHODS:
        function = getattr(EncryptedSession, method)
        function.__signature__ = inspect.signature(function)  # what inspect looks at first
