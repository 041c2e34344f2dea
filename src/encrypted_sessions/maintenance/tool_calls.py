"""Which expired tool calls may go: those that no output in time answers.

Reading leaves an output out because it meets its expired call. With the call gone it would return
that output alone, which a model refuses. Mostly an expired output stands near its expired call;
where none does, what came later in the session is looked through.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..history.classified import Classifier, ReadPolicy
from ..history.expired_calls import AnswersInTime
from ..history.pairing import Pair, answer_to, answered_by
from ..stores.whole import StoredRow
from .run import Run

__all__ = ["ExpiredCalls"]

#: Rows read at once of what came later in a session.
_LATER_ROWS = 100

_SessionPair = tuple[str, Pair]


class ExpiredCalls:
    """The calls and outputs among expired rows that were seen of late, by session and pair."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._calls: dict[_SessionPair, list[Any]] = {}
        self._outputs: dict[_SessionPair, list[Any]] = {}

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
        pair_of = {(session, row_id): pair for (session, pair), ids in self._calls.items() for row_id in ids}
        calls, outputs = _sorted(self._calls), _sorted(self._outputs)
        self._calls, self._outputs = {}, {}
        released = []
        unanswered: dict[str, dict[int, Pair]] = {}
        for index, row in enumerate(rows):
            pair = pair_of[row.session_id, row.id]
            key = row.session_id, pair
            answer, next_call = _first_after(row.id, outputs.get(key, [])), _first_after(row.id, calls[key])
            # Some models use ids again: an output answers the call before it.
            if answer is not None and (next_call is None or answer < next_call):
                released.append(index)
            else:
                unanswered.setdefault(row.session_id, {})[index] = pair
        for pairs in unanswered.values():
            earliest = min((rows[index] for index in pairs), key=lambda row: row.id)
            answered = await self._answered_in_time(earliest, set(pairs.values()))
            released += [index for index, pair in pairs.items() if pair not in answered]
        return sorted(released)

    async def _answered_in_time(self, call: StoredRow, pairs: set[Pair]) -> set[Pair]:
        """Those of the pairs that rows answer, or may answer, which came after a call and are in time."""
        run = self._run
        assert run.keys is not None  # noqa: S101 - checked where it entered
        policy = ReadPolicy(run.now, run.settings.ttl, read_plaintext=True)
        classifier: Classifier[StoredRow] = Classifier(run.keys, lambda: policy, run.time_slice)
        answers = AnswersInTime(policy, pairs)
        last: StoredRow | None = None
        while rows := await run.call(partial(run.store.later_rows, call, last, _LATER_ROWS)):
            run.raise_if_interrupted()
            last = rows[-1]
            if any(row.unread is not None and row.unread > run.settings.max_row_bytes for row in rows):
                return pairs  # it may answer any of them
            in_time = [row for row in rows if not policy.claims_to_be_expired(row.data)]
            for classification in await classifier.classify(in_time):
                answers.add(classification)
            if all(map(answers.include, pairs)):
                break
        return set(filter(answers.include, pairs))


def _sorted(ids: Mapping[_SessionPair, list[Any]]) -> dict[_SessionPair, list[Any]]:
    return {key: sorted(some) for key, some in ids.items()}


def _first_after(row_id: Any, ids: Sequence[Any]) -> Any:
    index = bisect_right(ids, row_id)
    return ids[index] if index < len(ids) else None
