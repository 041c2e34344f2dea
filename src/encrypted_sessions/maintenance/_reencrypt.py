"""Seal again what lies in a whole store: under the active key, with the age that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from keyproviders import redact_frames

from ..core.envelope import UPSTREAM_KID, openings, pack_row
from ..core.suites.fernet_v1 import NotAnItem
from . import arguments
from .engine import Engine
from .keys import ActiveKey
from .operation import ClassifiedRow, Operation
from .progress import Progress
from .reports import EncryptReport, ReencryptReport

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..stores.whole import StoredRow, WholeStore

#: Outcomes of rows that open. Their time does not matter: nothing lives longer for being sealed again.
_AUTHENTIC = ("ok", "expired", "not_yet_valid")


class _Reseal(Operation):
    """What both commands do with an envelope that opens."""

    looks_inside = False  # resealing does

    def __init__(self) -> None:
        self.active: ActiveKey | None = None
        self.already = 0

    async def begin_page(self) -> None:
        """The key to seal with: it may change during a long run."""
        assert self.run.keys is not None  # noqa: S101 - checked where it entered
        active, before = await self.run.keys.active(), self.active
        self.active = active
        if before is not None and before.kid != active.kid:
            self.run.left["former_key"] = self.run.begun + self.already

    def reseal(self, classified: ClassifiedRow) -> str | None:
        """The row's envelope under the active key."""
        assert self.active is not None  # noqa: S101 - `begin_page` came first
        assert classified.envelope is not None  # noqa: S101 - it was opened
        assert classified.opener is not None  # noqa: S101 - likewise
        try:
            token = self.active.resealer(classified.row.session_id).reseal(classified.envelope, classified.opener)
        except NotAnItem:
            self.run.leave("malformed", self.run.correct(classified, "malformed"))
            return None
        return pack_row(self.active.kid, token)


class _Labels:
    """Tells rows of some kid (None: of any) by the first bytes of their text."""

    def __init__(self, kid: str | None) -> None:
        self.kid = kid
        self.openings = openings(kid)
        self._bytes = tuple(opening.encode() for opening in self.openings)

    def fit(self, data: str | bytes) -> bool:
        """Whether a row's text begins like that."""
        return data.startswith(self._bytes) if isinstance(data, bytes) else data.startswith(self.openings)


_ANY = _Labels(None)
_UPSTREAM = _Labels(UPSTREAM_KID)


class _Reencrypt(_Reseal):
    def __init__(self, from_kid: str | None) -> None:
        super().__init__()
        self._from = None if from_kid is None else _Labels(from_kid)
        self._to = _Labels("")
        self.met = False

    async def begin_page(self) -> None:
        await super().begin_page()
        assert self.active is not None  # noqa: S101 - it was just asked for
        if self._to.kid != self.active.kid:
            self._to = _Labels(self.active.kid)

    def passes_by(self, row: StoredRow) -> bool:
        """Rows that name the active key, or not the one to move from: a second run costs next to nothing."""
        if self._to.fit(row.data):
            self.already += self.run.first_time
            return True
        return self._from is not None and _ANY.fit(row.data) and not self._from.fit(row.data)

    def passes(self) -> tuple[str, ...]:
        """Rows that name the active key."""
        return self._to.openings

    def passed(self, rows: int) -> None:
        """Count them."""
        self.already += rows * self.run.first_time

    def take(self, classified: ClassifiedRow) -> str | None:
        if classified.kid == self._to.kid:  # in a text of another form
            self.already += self.run.first_time
            return None
        if classified.outcome == "plaintext" or (self._from is not None and classified.kid != self._from.kid):
            return None
        self.met = True
        if classified.outcome in _AUTHENTIC:
            return self.reseal(classified)
        if classified.outcome not in ("erased", "not_opened"):
            self.run.leave(classified.outcome, classified)
        return None


@redact_frames
async def reencrypt(
    store: WholeStore,
    keys: KeyRing,
    *,
    from_kid: str | None = None,
    upstream_key: str | None = None,
    batch: int = 500,
    limit: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ReencryptReport:
    """Seal again under the active key what older keys sealed; every item keeps its timestamp.

    Rows that name the active key already are not touched, so a second run changes nothing, and a
    run that was killed goes on. `from_kid` limits it to one key. Rows of the SDK's class (kid
    "hkdf-v1") are resealed when `upstream_key` is given. What does not open is left, and counted.

    `batch` rows are changed at once, at most `limit` in all. `progress` is called now and then.
    `stop` is asked between batches, and ends the run when it says True.

    Raises TypeError or ValueError for a wrong argument, StoreError for a store that cannot be
    worked on, ProviderConfigError for a provider that cannot. An outage ends the run: the report's
    `stopped` says so.
    """
    task = _Reencrypt(arguments.kid(from_kid, "from_kid"))
    settings = arguments.settings(upstream_key=upstream_key, batch=batch, limit=limit, progress=progress, stop=stop)
    walk = Engine(arguments.store(store), arguments.keys(keys), settings, task)
    await walk.go()
    kid = None if task.active is None else task.active.kid
    if from_kid is not None and from_kid == kid:
        walk.notice(f"{from_kid} is the active key, under which rows stay: give the key to move away from")
    elif from_kid is not None and not task.met and walk.stopped is None:
        walk.notice(f"no row names {from_kid}; inventory shows which keys rows name")
    return ReencryptReport(**walk.told(), to_kid=kid, from_kid=from_kid, already=task.already)


class _Encrypt(_Reseal):
    def __init__(self, *, upstream: bool) -> None:
        super().__init__()
        self._upstream = upstream

    def passes_by(self, row: StoredRow) -> bool:
        """Rows that are sealed already, by their label; their keys need not be asked for."""
        return _ANY.fit(row.data) and not (self._upstream and _UPSTREAM.fit(row.data))

    def passes(self) -> tuple[str, ...]:
        """Rows that are sealed already."""
        return () if self._upstream else _ANY.openings

    def take(self, classified: ClassifiedRow) -> str | None:
        if classified.outcome == "plaintext":
            return self._seal(classified)
        if classified.kid == UPSTREAM_KID and self._upstream:
            if classified.outcome in _AUTHENTIC:
                return self.reseal(classified)
            self.run.leave(classified.outcome, classified)
        elif classified.outcome == "malformed":
            self.run.leave("malformed", classified)
        return None

    def _seal(self, classified: ClassifiedRow) -> str | None:
        assert self.active is not None  # noqa: S101 - `begin_page` came first
        row, now = classified.row, self.run.now
        if row.created_at is None:
            self.run.notice(
                "the store keeps no times, so what was plaintext counts as written now: it expires a whole ttl from now"
            )
        stamp = now if row.created_at is None else max(0, min(int(row.created_at), now))
        try:
            token = self.active.cipher(row.session_id).seal(classified.item, stamp)
        except (TypeError, UnicodeEncodeError):
            self.run.leave("not_exact", classified)
            return None
        return pack_row(self.active.kid, token)


@redact_frames
async def encrypt_plaintext(
    store: WholeStore,
    keys: KeyRing,
    *,
    upstream_key: str | None = None,
    batch: int = 500,
    limit: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> EncryptReport:
    """Seal under the active key what is plaintext and, with `upstream_key`, what the SDK's class wrote.

    Plaintext is a JSON object that is no envelope. It carries its row's own created time, never one
    later than now; where the store keeps none, now, and a notice says so. Rows of the SDK's class
    keep their token's timestamp. Every row stays in its place.

    From then on such a row is authentic, whoever wrote it: run this once, when only what you trust
    has ever written to the store. The report's `plaintext` says how many there were.

    The other arguments and errors are those of `reencrypt`.
    """
    settings = arguments.settings(upstream_key=upstream_key, batch=batch, limit=limit, progress=progress, stop=stop)
    task = _Encrypt(upstream=upstream_key is not None)
    walk = Engine(arguments.store(store), arguments.keys(keys), settings, task)
    await walk.go()
    kid = None if task.active is None else task.active.kid
    plaintext = walk.changed_of.get("plaintext", 0)
    return EncryptReport(**walk.told(), to_kid=kid, plaintext=plaintext, upstream=walk.changed - plaintext)
