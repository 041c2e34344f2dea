"""What `reencrypt` and `encrypt_plaintext` share: rows told by their labels, and envelopes sealed again."""

from __future__ import annotations

from ..core.cipher import NotAnItem
from ..core.envelope import UPSTREAM_KID, openings
from .ciphers import ActiveKey
from .classified_row import ClassifiedRow
from .moving import Move
from .operation import Operation
from .run import Run

__all__ = ["ANY_LABEL", "AUTHENTIC", "UPSTREAM_LABEL", "Label", "Resealing"]

#: Outcomes of rows that open. Their time does not matter: nothing lives longer for being sealed again.
AUTHENTIC = ("ok", "expired", "not_yet_valid")


class Label:
    """Tells rows of some kid and suite (None: of any) by the first bytes of their text."""

    def __init__(self, kid: str | None, suite: int | None = None) -> None:
        self.kid = kid
        of_suite = '{"__enc__":1,"v":' if suite is None else f'{{"__enc__":1,"v":{suite},'
        self.openings = tuple(one for one in openings(kid) if one.replace(" ", "").startswith(of_suite))
        self._bytes = tuple(opening.encode() for opening in self.openings)

    def is_on(self, data: str | bytes) -> bool:
        """Whether a row's text begins like that."""
        return data.startswith(self._bytes) if isinstance(data, bytes) else data.startswith(self.openings)


ANY_LABEL = Label(None)
UPSTREAM_LABEL = Label(UPSTREAM_KID)


class Resealing(Operation):
    """What both commands do with an envelope that opens."""

    looks_inside = False  # resealing does

    def __init__(self, run: Run, move: Move | None = None) -> None:
        super().__init__(run)
        self.active: ActiveKey | None = None
        self.move = move or Move(None, None, run.settings.realms)
        self.already = 0

    @property
    def active_kid(self) -> str | None:
        """The kid of the key that rows were sealed under last, if the run came so far."""
        return None if self.active is None else self.active.kid

    async def begin_page(self) -> None:
        """The key to seal with: it may change during a long run."""
        assert self.run.keys is not None  # noqa: S101 - checked where it entered
        active, before = await self.run.keys.active(), self.active
        self.active = active
        if before is not None and before.kid != active.kid:
            self.run.left["former_key"] = self.run.scheduled + self.already

    def reseal(self, classified: ClassifiedRow) -> str | None:
        """The row's envelope under the active key, in the suite and the realm that it has or comes to."""
        assert self.active is not None  # noqa: S101 - `begin_page` came first
        try:
            resealed = self.move.reseal(classified, self.active)
        except NotAnItem:
            self.run.leave("malformed", self.run.recount(classified, "malformed"))
            return None
        if resealed is None:
            self.run.leave(classified.outcome, classified)
        elif len(resealed) > self.run.settings.max_row_bytes:  # sessions of this limit would read it no more
            self.run.leave("too_large", classified)
            return None
        return resealed
