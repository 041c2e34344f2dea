"""Which suite a row is sealed again in, and with what end: `reencrypt` keeps each in its own unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .ciphers import ActiveKey
from .classified_row import ClassifiedRow
from .realms import BINDS_NO_REALM, RealmOpener, Realms

__all__ = ["Move", "MovedFrom", "MovedRows"]

#: The latest time that suite 2 has bytes for.
_LATEST = 2**40 - 1


class MovedFrom(NamedTuple):
    """What a row was that was sealed again: under which key, of which suite, and whether its end went with that."""

    kid: str
    suite: int
    lost_its_end: bool


class MovedRows:
    """Rows that were sealed again, or in a dry run would be, counted in each way that a report has."""

    def __init__(self, changed: Mapping[MovedFrom, int]) -> None:
        self.by_kid: dict[str, int] = {}
        self.by_suite: dict[int, int] = {}
        self.lost_their_end = 0
        for what, rows in changed.items():
            self.by_kid[what.kid] = self.by_kid.get(what.kid, 0) + rows
            self.by_suite[what.suite] = self.by_suite.get(what.suite, 0) + rows
            self.lost_their_end += rows * what.lost_its_end


class Move:
    """A suite for all rows, or None for each row's own.

    Rows of suite 1 that come into suite 2 expire `ttl` seconds after they were sealed; None for never.
    """

    def __init__(self, suite: int | None, ttl: int | None, realms: Realms) -> None:
        self.suite = suite
        self._ttl = ttl
        self._realms = realms

    def leaves(self, classified: ClassifiedRow) -> bool:
        """Whether a row is in its suite already."""
        assert classified.envelope is not None  # noqa: S101 - it names a key
        return self.suite in (None, classified.envelope.version)

    def reseal(self, classified: ClassifiedRow, active: ActiveKey) -> str | None:
        """The text of an opened row under the active key. None for one that is stamped later than suite 2 can say.

        Raises what `SessionCipher.reseal_row` raises.
        """
        envelope, opener, session_id = classified.envelope, classified.opener, classified.row.session_id
        assert envelope is not None  # noqa: S101 - it was opened
        assert opener is not None  # noqa: S101 - likewise
        suite = self.suite or envelope.version
        if suite == BINDS_NO_REALM:
            return active.cipher(session_id, suite).reseal_row(envelope, opener, suite=suite)
        if isinstance(opener, RealmOpener):
            cipher = active.cipher(session_id, suite, opener.realm_of(envelope))
            return cipher.reseal_row(envelope, opener, suite=suite)
        if envelope.timestamp > _LATEST:
            return None
        expires = None if self._ttl is None else envelope.timestamp + self._ttl
        cipher = active.cipher(session_id, suite, self._realms.only_of(session_id))
        return cipher.reseal_row(envelope, opener, suite=suite, expires=expires)

    def of(self, classified: ClassifiedRow) -> MovedFrom:
        """What a row was that `reseal` was given."""
        envelope = classified.envelope
        assert envelope is not None  # noqa: S101 - it was opened
        lost = self.suite == BINDS_NO_REALM and envelope.expires is not None
        return MovedFrom(envelope.kid, envelope.version, lost)
