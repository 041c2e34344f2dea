"""Which expired tool calls may go: those that no output in time answers.

Reading leaves an output out because it meets its expired call. With the call gone it would return
that output alone, which a model refuses. Mostly an expired output stands near its expired call;
where none does, what came later in the session is looked through.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from ..history.classified import Classifier, ReadPolicy
from ..history.pairing import Pair, answer_to, answered_by
from ..stores.whole import StoredRow
from .run import Run

__all__ = ["ExpiredCalls"]

#: Outcomes of rows that will never be read again, so that they answer nothing.
_SILENT = ("erased", "malformed", "unauthentic")

#: Rows read at once of what came later in a session.
_LATER_ROWS = 100

_Name = tuple[str, Pair]


class ExpiredCalls:
    """The calls and outputs among expired rows that were seen of late, by session and pair."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._calls: dict[_Name, list[Any]] = {}
        self._outputs: dict[_Name, list[Any]] = {}

    def note(self, row: StoredRow, item: dict[str, Any]) -> bool:
        """Note an expired row. Whether it is a call, so that `releasable` has to say whether it may go."""
        output, call = answer_to(item), answered_by(item)
        if output is not None:
            self._outputs.setdefault((row.session_id, output), []).append(row.id)
        if call is not None:
            self._calls.setdefault((row.session_id, call), []).append(row.id)
        return call is not None

    async def releasable(self, rows: Sequence[StoredRow]) -> list[int]:
        """Which of these calls may go, by their indexes; then nothing is noted any more."""
        names = {(name[0], row_id): name for name, ids in self._calls.items() for row_id in ids}
        calls, outputs = _sorted(self._calls), _sorted(self._outputs)
        self._calls, self._outputs = {}, {}
        released = []
        asked: dict[str, dict[int, Pair]] = {}
        for index, row in enumerate(rows):
            name = names[row.session_id, row.id]
            answer, next_call = _first_after(row.id, outputs.get(name, [])), _first_after(row.id, calls[name])
            # Some models use ids again: an output answers the call before it.
            if answer is not None and (next_call is None or answer < next_call):
                released.append(index)
            else:
                asked.setdefault(row.session_id, {})[index] = name[1]
        for pairs in asked.values():
            earliest = min((rows[index] for index in pairs), key=lambda row: row.id)
            answered = await self._answered_in_time(earliest, set(pairs.values()))
            released += [index for index, pair in pairs.items() if pair not in answered]
        return sorted(released)

    async def _answered_in_time(self, call: StoredRow, pairs: set[Pair]) -> set[Pair]:
        """Those of the pairs that rows answer, or may answer, which came after a call and are in time."""
        answered: set[Pair] = set()
        async with aclosing(self._items_in_time(call)) as items:
            async for item in items:
                if item is None:
                    return pairs
                output = answer_to(item)
                if output in pairs:
                    answered.add(output)
                    if answered == pairs:
                        return pairs
        return answered

    async def _items_in_time(self, call: StoredRow) -> AsyncGenerator[dict[str, Any] | None, None]:
        """What came after a row in its session and is in time; None for what may be read one day, and not now."""
        run = self._run
        assert run.keys is not None  # noqa: S101 - checked where it entered
        policy = ReadPolicy(run.now, run.settings.ttl, read_plaintext=True)
        classifier: Classifier[StoredRow] = Classifier(run.keys, lambda: policy, run.time_slice)
        last: StoredRow | None = None
        while rows := await run.call(partial(run.store.later_rows, call, last, _LATER_ROWS)):
            run.raise_if_interrupted()
            last = rows[-1]
            in_time = [row for row in rows if not policy.claims_to_be_expired(row.data)]
            for classification in await classifier.classify(in_time):
                if classification.outcome not in _SILENT:
                    yield classification.item


def _sorted(ids: Mapping[_Name, list[Any]]) -> dict[_Name, list[Any]]:
    return {name: sorted(some) for name, some in ids.items()}


def _first_after(row_id: Any, ids: Sequence[Any]) -> Any:
    place = bisect_right(ids, row_id)
    return ids[place] if place < len(ids) else None
