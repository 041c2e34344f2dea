"""Reading opens what is plainly ok, as nearly all rows are, in one call for each.

The rows of a history have few labels: the text before a body, which names a suite and a kid. Once the answer for a
label's key is known, rows with that label are opened by its reader (`Opener.reader`). Whatever is not opened so is
judged as everywhere else, in the order of questions that holds there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from time import perf_counter
from typing import Any

from ..core.cipher import Opener
from ..core.envelope import ROW_END, UPSTREAM_KID, Envelope, label_of, parse_row, read_label
from ..stores.rows import Row
from .classified import CLOCK_SKEW_S, Classifier, ReadPolicy, SessionOpeners
from .results import Classification

__all__ = ["Item", "ReadingClassifier", "plainly_in_time"]

Item = dict[str, Any]

#: A label's kid, and what opens its rows; None where its key is not there.
_Reader = tuple[str, "Callable[[bytes], Item | None] | None"]
_NO_READER: _Reader = "", None

#: The clock is looked at after so many rows, and after each that has more bytes.
_FEW, _LARGE = 8, 4096

_MARK = b'{"__enc__":'
#: No row begins so.
_NO_LABEL = b"\0"


class ReadingClassifier(Classifier[Row]):
    """A classifier for who wants items."""

    _openers: SessionOpeners

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._readers: dict[bytes, _Reader] = {}

    async def read(self, rows: Sequence[Row]) -> list[Item | Classification]:
        """For each row its item where it is plainly ok, else what `classify` finds, in the same order."""
        if not self._readers and rows:
            await self._meet_first(rows[0].data)
        found: list[Any] = [None] * len(rows)
        opened: dict[str, int] = {}
        new = await self._open(rows, found, opened)
        if new and await self._meet(new):
            await self._open(rows, found, opened)
        if None in found:
            left = [row for row, one in zip(rows, found, strict=True) if one is None]
            decided = iter(await self._decide(left))
            found = [next(decided) if one is None else one for one in found]
        if self._judged is not None:
            self._judged(found, opened)
        return found

    async def _open(self, rows: Sequence[Row], found: list[Any], opened: dict[str, int]) -> dict[bytes, list[bytes]]:
        """Open those of the rows that were not yet, and whose label is known; the rows of each label that is not.

        `opened` counts them by kid.
        """
        readers, limit, time_slice = self._readers, self._max_row_bytes, self._time_slice
        new: dict[bytes, list[bytes]] = {}
        label, begin, kid, reader, alike = _NO_LABEL, 0, "", None, 0
        unknown: list[bytes] | None = None
        for place, (_, data) in enumerate(rows):
            if found[place] is not None or type(data) is not bytes or (size := len(data)) > limit:
                continue
            if not (data.startswith(label) and data.endswith(ROW_END)):
                label = label_of(data) or _NO_LABEL
                if alike:
                    opened[kid] = opened.get(kid, 0) + alike
                    alike = 0
                begin = len(label) - 1
                kid, reader = readers.get(label, _NO_READER)
                unknown = new.setdefault(label, []) if label not in readers and label.startswith(_MARK) else None
            if unknown is not None:
                unknown.append(data)
            elif reader is not None and (item := reader(data[begin:-1])) is not None:
                found[place] = item
                alike += 1
            if (size > _LARGE or not place % _FEW) and perf_counter() > time_slice.ends_at:
                await time_slice.checkpoint()
        if alike:
            opened[kid] = opened.get(kid, 0) + alike
        return new

    async def _meet_first(self, data: object) -> None:
        """Find the reader for a row's label, nearly always that of all, if no place has to be asked for its key."""
        label = label_of(data) if type(data) is bytes and len(data) <= self._max_row_bytes else b""
        kid, suite = read_label(label)
        if suite is None or suite.version < self._oldest_suite or not _is_well_formed(data, kid, suite.version):
            return
        opener = await self._openers.known(kid, suite.version)
        if opener is not None:
            self._add_reader(label, kid, opener)

    async def _meet(self, new: dict[bytes, list[bytes]]) -> bool:
        """Find readers for labels of rows. Whether there are new readers.

        A kid is asked for only if one of its rows is well-formed.
        """
        met: dict[bytes, tuple[str, int]] = {}
        for label, rows in new.items():
            kid, suite = read_label(label)
            if suite is None or suite.version < self._oldest_suite:
                continue
            for data in rows:
                if self._time_slice.is_used_up():
                    await self._time_slice.checkpoint()
                if _is_well_formed(data, kid, suite.version):
                    met[label] = kid, suite.version
                    break
        if not met:
            return False
        await self._openers.ask(set(met.values()))
        for label, (kid, version) in met.items():
            self._add_reader(label, kid, self._openers.answer(kid, version))
        return True

    def _add_reader(self, label: bytes, kid: str, opener: Opener | str) -> None:
        if isinstance(opener, str):
            self._readers[label] = kid, None
        else:
            self._readers[label] = kid, opener.reader(kid, plainly_in_time(opener, self._policy(), kid))


def _is_well_formed(data: object, kid: str, version: int) -> bool:
    found = parse_row(data) if isinstance(data, bytes) else None
    return isinstance(found, Envelope) and (found.kid, found.version) == (kid, version)


def plainly_in_time(opener: Opener, policy: ReadPolicy, kid: str) -> Callable[[Envelope], bool]:
    """What tells whether `claimed` is "ok" for an opener's envelopes under `kid`, with what they share known before."""
    since = policy.now - policy.ttl if policy.tells_expired and policy.ttl is not None else -inf
    ends: float = policy.now if policy.tells_expired else -inf
    until: float = policy.now + CLOCK_SKEW_S
    if opener.written_until is not None and policy.tells_late:
        until = min(until, opener.written_until + CLOCK_SKEW_S)
    if policy.upstream_until is not None and kid == UPSTREAM_KID:
        until = min(until, policy.upstream_until)

    def is_in_time(envelope: Envelope) -> bool:
        expires = envelope.expires
        return since <= envelope.timestamp <= until and (expires is None or ends <= expires)

    return is_in_time
