"""The wrapper: any session of the Agents SDK, with every item sealed before it is stored."""

from __future__ import annotations

import inspect
import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from keyproviders import redact_frames

from . import arguments
from ._support.warnings import warn_caller
from .core.derivation import upstream_secret
from .core.outcomes import UNREADABLE, Outcome, describe
from .errors import UnreadableItemsError, WeakKeyWarning
from .history.classified import ReadPolicy
from .history.keychain import Keychain, RingKeychain, StringKeychain
from .history.results import History, OutcomeCounts
from .history.sealed_history import SealedHistory
from .stores import has_rows, store_beneath
from .stores.plain import METHODS, accepts_wrapper, call, settings_limit

if TYPE_CHECKING:
    from agents import RunContextWrapper, TResponseInputItem
    from agents.memory import SessionSettings

    from keyproviders import KeyRing

    from .history.compaction import Compaction

logger = logging.getLogger("encrypted_sessions")

#: From so many on, expired items that were read and left out are worth telling.
_EXPIRED_WORTH_A_WARNING = 1000

#: After a purge_on_add that failed, the session makes no other for so long.
_PURGE_REST_S = 60


def _now() -> float:
    """The wall clock, seconds since 1970."""
    return time.time()


class EncryptedSession:
    """Seals every item of another session with a key of its own, and lets it expire.

    `underlying_session` is any object with `session_id`, `get_items`, `add_items`, `pop_item` and
    `clear_session`; the wrapper is one itself. `encryption_key` is a `KeyRing`, or a string with
    the Agents SDK's own rule for keys and bytes. `ttl` is in seconds, None for no end; it has to
    exceed the longest time that a run waits for an approval.

    Sealed with AES-128-CBC and HMAC-SHA256 (Fernet), under a key that HKDF-SHA256 derives from the
    master key and the session id. Stored rows show sizes, counts, times, session ids and key ids.

    What cannot be read raises `UnreadableItemsError` (on_unreadable="skip" leaves it out and logs
    a warning) and is never deleted. `plaintext="read"` lets rows in that were never encrypted, for
    moving over. `upstream_key` is the string with which the SDK's class wrote rows that a key ring
    shall read. `max_scan_items` bounds the rows that one `get_items` fetches. `purge_on_add` removes
    up to so many expired rows (256 at most), the oldest first, after each `add_items`.
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
    ) -> None:
        """Check the arguments; no I/O, no key is asked for.

        Raises TypeError or ValueError for a wrong argument. Warns `WeakKeyWarning` for a string
        that is not 32 random bytes in base64.
        """
        _know_signatures()
        self._session_id = arguments.session_id(session_id)
        self._underlying_session = arguments.underlying_session(underlying_session)
        self._ttl = arguments.ttl(ttl)
        self.max_scan_items = arguments.max_scan_items(max_scan_items)
        self._skip = arguments.choice(on_unreadable, "on_unreadable", arguments.ON_UNREADABLE) == "skip"
        self._read_plaintext = arguments.choice(plaintext, "plaintext", arguments.PLAINTEXT) == "read"
        self._purge_on_add = arguments.purge_on_add(purge_on_add)
        if purge_on_add and not has_rows(underlying_session):
            raise ValueError(
                f"purge_on_add needs a store whose single rows can be removed, and {type(underlying_session).__name__}"
                " is none: see SECURITY.md, 'Stores'. Leave purge_on_add at 0"
            )
        self._takes_wrapper = accepts_wrapper(underlying_session)
        self._sealed = SealedHistory(
            underlying_session,
            store_beneath(underlying_session),
            _keychain(encryption_key, upstream_key, self.session_id),
            self._policy,
        )
        self._compactor: Compaction | None = None
        self._already_logged: set[str] = set()
        self._purge_again_at = 0.0
        if underlying_session.session_id != session_id:
            warn_caller(
                f"the wrapper's session id {session_id!r} is not its store's"
                f" {underlying_session.session_id!r}: rows are stored under the one and sealed"
                " for the other. EncryptedSession.wrap(store, ...) takes the store's id",
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
    ) -> EncryptedSession:
        """The wrapper of a session under its own id, with a key ring and a ttl that must be said.

        Raises TypeError or ValueError for a wrong argument.
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
        )

    # -- The Agents SDK's session -----------------------------------------------------------

    @redact_frames
    async def get_items(
        self, limit: int | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> list[TResponseInputItem]:
        """The latest `limit` readable items, oldest first; all of them without a limit.

        Without an argument, the underlying session's `session_settings.limit` counts. Expired
        items are left out, and outputs whose tool call was left out. With a limit the search ends
        after 64 consecutive rows that expired more than two minutes ago.

        Raises UnreadableItemsError (unless on_unreadable="skip"), what the key provider raises,
        and RuntimeError when `max_scan_items` does not suffice.
        """
        limit = self._limit(limit)
        if limit == 0:
            return []
        found = await self._sealed.read(limit, self._keywords(wrapper), budget=self.max_scan_items)
        self._report(found.counts, limit)
        return found.items  # type: ignore[return-value]  # what was sealed was an item

    @redact_frames
    async def read(self, limit: int | None = None) -> History:
        """What can be read, and a count of everything that was found; raises for no outcome.

        `limit` as in `get_items`. Raises what the key provider raises when it cannot answer.
        """
        limit = self._limit(limit)
        if limit == 0:
            return History([], OutcomeCounts().outcomes(), ())
        found = await self._sealed.read(limit, {})
        return History(
            found.items,  # type: ignore[arg-type]  # what was sealed was an item
            found.counts.outcomes(),
            tuple(found.counts.findings),
        )

    @redact_frames
    async def add_items(
        self,
        items: list[TResponseInputItem],
        *,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> None:
        """Seal and store items. What is added together carries one timestamp, and expires together.

        With `purge_on_add`, some of the oldest expired rows are removed afterwards; what goes wrong
        in that is logged, and raises nothing.

        Raises TypeError, before anything is written, for items that JSON cannot give back as they
        are; what the key provider raises; what the store raises.
        """
        batch = arguments.items(items)
        if batch:
            batch = await self._sealed.seal(batch)
        await call(self.underlying_session.add_items, batch, **self._keywords(wrapper))
        if self._purge_on_add:
            await self._purge_head()

    @redact_frames
    async def pop_item(self, *, wrapper: RunContextWrapper[Any] | None = None) -> TResponseInputItem | None:
        """Remove and return the latest item; None when there is none.

        Expired rows at the tail are removed. A row that cannot be read stays, and raises
        UnreadableItemsError, also under on_unreadable="skip".
        """
        from .history.popping import pop  # noqa: PLC0415 - few sessions pop

        return await pop(self._sealed, self._keywords(wrapper))  # type: ignore[return-value]  # what was sealed was an item

    @redact_frames
    async def purge_expired(self) -> int:
        """Remove the session's expired rows from the store; how many these were.

        Only what is authentic and expired goes, wherever it lies, each row only if it is unchanged.
        What cannot be opened stays, and so does an expired tool call while its output is in time.
        Without a ttl nothing is expired. Can be stopped at any time, and begun again.

        Raises what the key provider raises when it cannot answer (what was removed until then stays
        removed), and PurgeRefusedError where the store cannot remove single rows and has expired
        ones.
        """
        from .history.purging import purge  # noqa: PLC0415 - few sessions purge

        return await purge(self._sealed)

    @redact_frames
    async def clear_session(self, *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """Delete all rows of the session, as the store does."""
        await call(self.underlying_session.clear_session, **self._keywords(wrapper))

    @property
    def underlying_session(self) -> Any:
        """The session that stores the sealed items."""
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
            """The underlying session's settings."""
            return getattr(self.underlying_session, "session_settings", None)

        @session_settings.setter
        def session_settings(self, value: SessionSettings | None) -> None:
            self.underlying_session.session_settings = value

    @property
    def ttl(self) -> int | None:
        """Seconds that an item lives, None for no end."""
        return self._ttl

    @ttl.setter
    def ttl(self, value: int | None) -> None:
        self._ttl = arguments.ttl(value)

    # -- What the SDK's compaction looks for ------------------------------------------------

    @redact_frames
    async def _read_compaction_items(
        self, limit: int | None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> tuple[list[Any], bool]:
        return await self._compaction.read(limit, self._limit(None), self._keywords(wrapper))

    @redact_frames
    async def _get_compaction_snapshot(self, limit: int, **_: Any) -> Any:
        return await self._compaction.snapshot(limit)

    @redact_frames
    async def _atomic_replace_items(self, items: list[Any]) -> bool:
        return await self._compaction.replace_all(items)

    @property
    def _compaction(self) -> Compaction:
        if self._compactor is None:
            from .history.compaction import Compaction  # noqa: PLC0415 - few sessions compact

            self._compactor = Compaction(self._sealed)
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

    # -- Reading ----------------------------------------------------------------------------

    def _limit(self, limit: int | None) -> int | None:
        return arguments.limit(settings_limit(self.underlying_session) if limit is None else limit)

    def _policy(self) -> ReadPolicy:
        return ReadPolicy(int(_now()), self._ttl, read_plaintext=self._read_plaintext)

    def _report(self, counts: OutcomeCounts, limit: int | None) -> None:
        if counts.met(self._raising()):
            if not self._skip:
                raise UnreadableItemsError.of(counts.outcomes(), counts.findings, raising=self._raising())
            left_out: dict[str, int] = {name: counts.count(name) for name in self._raising()}
            logger.warning("left out what cannot be read: %s", describe(left_out))
        if counts.count("erased") and self._first_time("erased"):
            logger.warning("%d items are left out because their key was destroyed", counts.count("erased"))
        expired = counts.count("expired")
        if limit is None and expired > _EXPIRED_WORTH_A_WARNING and self._first_time("expired"):
            logger.warning("%d expired items were read and left out; purge_expired() removes them", expired)

    def _raising(self) -> tuple[Outcome, ...]:
        if self._read_plaintext:
            return tuple(name for name in UNREADABLE if name != "plaintext")
        return UNREADABLE

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
        raise TypeError("an EncryptedSession holds keys and cannot be pickled or copied; make one where it is needed")

    if not TYPE_CHECKING:  # a type checker shall know the attributes there are, and no others

        def __getattr__(self, name: str) -> NoReturn:
            message = f"EncryptedSession has no attribute {name!r}"
            beneath = self.__dict__.get("_underlying_session")
            if not name.startswith("__") and hasattr(beneath, name):
                message += f"; use session.underlying_session.{name}, which sees sealed items"
            raise AttributeError(message)


@cache
def _know_signatures() -> None:
    """Work out once what the SDK's Runner asks several times on every turn, 75 us each time."""
    for method in METHODS:
        function = getattr(EncryptedSession, method)
        function.__signature__ = inspect.signature(function)  # what inspect looks at first


def _keychain(encryption_key: str | KeyRing, upstream_key: str | None, session_id: str) -> Keychain:
    if upstream_key is not None:
        arguments.key_string(upstream_key, "upstream_key")
    if arguments.is_key_ring(encryption_key):
        return RingKeychain(encryption_key, session_id, upstream_key)
    text = arguments.key_string(encryption_key, "encryption_key")
    if upstream_key is not None:
        raise ValueError(
            "upstream_key goes with a KeyRing; with a string, encryption_key reads the rows that the SDK's class wrote"
        )
    secret, is_key = upstream_secret(text)
    if not is_key:
        warn_caller(
            "encryption_key is not 32 random bytes in base64. It works, and whoever copies the"
            " store can try out passwords against it without limit: use the output of"
            " 'encrypted-sessions keygen', or a KeyRing",
            WeakKeyWarning,
        )
    return StringKeychain(secret, session_id)
