"""Reading opens what is plainly ok, as nearly all rows are, in one call for each.

The rows of a history have few labels: the text before a body, which names a suite and a kid. Once the answer for a
label's key is known, rows with that label are opened by its reader (`Opener.reader`). Whatever is not opened so is
judged as everywhere else, in the order of questions that holds there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from ..core.cipher import Opener
from ..core.envelope import ROW_END, Envelope, label_of, parse_row, read_label
from ..stores.rows import Row
from .classified import Classifier, ReadPolicy, claimed
from .results import Classification

__all__ = ["Item", "ReadingClassifier"]

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

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._readers: dict[bytes, _Reader] = {}

    async def read(self, rows: Sequence[Row]) -> list[Item | Classification]:
        """For each row its item where it is plainly ok, else what `classify` finds, in the same order."""
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

    async def _open(self, rows: Sequence[Row], found: list[Any], opened: dict[str, int]) -> dict[bytes, bytes]:
        """Open those of the rows that were not yet, and whose label is known; a row of each label that is not.

        `opened` counts them by kid.
        """
        readers, limit, time_slice = self._readers, self._max_row_bytes, self._time_slice
        new: dict[bytes, bytes] = {}
        label, kid, reader, alike = _NO_LABEL, "", None, 0
        for place, (_, data) in enumerate(rows):
            if found[place] is not None or type(data) is not bytes or len(data) > limit:
                continue
            if not (data.startswith(label) and data.endswith(ROW_END)):
                label = label_of(data) or _NO_LABEL
                if alike:
                    opened[kid] = opened.get(kid, 0) + alike
                    alike = 0
                kid, reader = readers.get(label, _NO_READER)
                if label not in readers and label.startswith(_MARK):
                    new.setdefault(label, data)
            item = None if reader is None else reader(data[len(label) - 1 : -1])
            if item is not None:
                found[place] = item
                alike += 1
            if (not place % _FEW or len(data) > _LARGE) and perf_counter() > time_slice.ends_at:
                await time_slice.checkpoint()
        if alike:
            opened[kid] = opened.get(kid, 0) + alike
        return new

    async def _meet(self, new: dict[bytes, bytes]) -> bool:
        """Find readers for labels, each of which some row has. A kid is asked for only if that row is well-formed.

        Whether there are new readers.
        """
        met: dict[bytes, Envelope] = {}
        for label, data in new.items():
            kid, suite = read_label(label)
            if suite is not None and suite.version >= self._oldest_suite:
                found = parse_row(data)
                if isinstance(found, Envelope) and (found.kid, found.version) == (kid, suite.version):
                    met[label] = found
            if self._time_slice.is_used_up():
                await self._time_slice.checkpoint()
        if not met:
            return False
        await self._openers.prepare(met.values())
        policy = self._policy()
        for label, envelope in met.items():
            opener = self._openers.opener(envelope, Row(None, None))
            if isinstance(opener, str):
                self._readers[label] = envelope.kid, None
            else:
                self._readers[label] = envelope.kid, opener.reader(envelope.kid, partial(_is_in_time, opener, policy))
        return True


def _is_in_time(opener: Opener, policy: ReadPolicy, envelope: Envelope) -> bool:
    return claimed(envelope, opener, policy) == "ok"
