"""Remove what is expired, and nothing else.

A row goes if it is authentic and expired, and if it still is what was classified. An expired tool call
stays while its output is in time, or may be read one day (`expired_calls`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ..errors import PurgeRefusedError
from ..events.listening import running
from ..stores.access import rows_to_purge
from ..stores.registry import other_purge_of_class
from ..stores.rows import HistoryMovedError, Row, RowStore
from ..stores.sizes import PAGE
from .classified import Classifier, HistoryWalk, ReadPolicy, is_late
from .expired_calls import AnswersInTime
from .pairing import Pair, answer_to, answered_by
from .results import Classification
from .sealed_history import SealedHistory, start_again_while_it_moves

__all__ = ["purge", "purge_head"]

#: Rows that `purge_head` looks at, so that a few at the head that must stay are not in its way.
_HEAD = 32


async def purge(history: SealedHistory) -> int:
    """Remove all expired rows of a history, and return how many were removed.

    Raises what the key provider raises when it cannot answer, and PurgeRefusedError.
    """
    rows = _rows(history)
    if rows is None:
        await _refuse_expired(history)
        return 0
    removed = 0

    async def attempt() -> None:
        nonlocal removed
        async for count in _purge_backwards(history, rows):
            removed += count

    # What was judged is gone by then: it stays counted.
    await start_again_while_it_moves(attempt, counts_anew=False)
    return removed


async def purge_head(history: SealedHistory, count: int) -> int:
    """Remove up to `count` expired rows among the oldest few; how many these were.

    One read, and one change if something is due. An expired call whose output is not among these
    rows stays, for `purge` to decide.
    """
    policy = history.policy()
    rows = _rows(history)
    if rows is None:
        return 0
    oldest = await rows.oldest(min(max(count, _HEAD), PAGE))
    old = [row for row in oldest if policy.claims_to_be_expired(row.data)]
    classifications = await _classifier(history, policy).classify(old)
    _count(classifications, policy, None)
    due: list[Row] = []
    answered: set[Pair | None] = {None}
    for row, classification in zip(reversed(old), reversed(classifications), strict=True):
        if _is_expired(classification, policy):
            if _call(classification) in answered:  # or no call
                due.append(row)
            answered.add(_output(classification))
    return await _remove(history, rows, due[::-1][:count])


async def _purge_backwards(history: SealedHistory, rows: RowStore) -> AsyncIterator[int]:
    """Remove page after page, from the newest row on: so it is known which outputs are in time."""
    policy = history.policy()
    walk = HistoryWalk(rows.cursor(), _classifier(history, policy))
    due: list[Row] = []
    answers = AnswersInTime(policy)
    position = 0
    while not walk.is_complete():
        page = await walk.advance(None, group=PAGE)
        _count([classification for _, classification in page], policy, position)
        position += len(page)
        for row, classification in page:
            if _is_expired(classification, policy):
                call = _call(classification)
                if call is None or not answers.include(call):
                    due.append(row)
            else:
                answers.add(classification)
        # The cursor finds its way from the last row of a page: that one goes with the next page.
        later = [due.pop()] if due and not walk.is_complete() and due[-1] is page[-1][0] else []
        removed = await _remove(history, rows, due)
        yield removed
        if rows.IDS_ARE_POSITIONS and removed < len(due):
            raise HistoryMovedError  # what is due has another place now
        due = later


def _rows(history: SealedHistory) -> RowStore | None:
    if isinstance(history.rows, RowStore):
        return history.rows
    rows = rows_to_purge(history.session)
    return None if rows is None else history.guarded(rows)


async def _remove(history: SealedHistory, rows: RowStore, due: Sequence[Row]) -> int:
    # Also when the waiting task is cancelled: a change that was sent is waited for.
    return await history.changes.finish("purging", rows.remove_any(due)) if due else 0


def _classifier(history: SealedHistory, policy: ReadPolicy) -> Classifier[Row]:
    # What is expired is opened, which says whether it is a call. Time counts before a key that is late.
    opening = ReadPolicy(
        policy.now,
        None,
        read_plaintext=True,
        upstream_until=policy.upstream_until,
        tells_expired=False,
        tells_late=False,
    )
    return history.classifier(opening, counts=False)


def _count(classifications: Sequence[Classification], policy: ReadPolicy, position: int | None) -> None:
    """Have the running operation know of rows as reading has them: with the ttl, and with keys that are late."""
    operation = running()
    if operation is not None:
        operation.judged([_as_read(one, policy) for one in classifications], position)


def _as_read(classification: Classification, policy: ReadPolicy) -> Classification:
    envelope = classification.envelope
    if _is_expired(classification, policy):
        return Classification("expired", envelope)
    if classification.outcome in ("ok", "malformed") and envelope is not None and envelope.verified_by is not None:
        if is_late(envelope.timestamp, envelope.verified_by):
            return Classification("late_key", envelope)
    elif classification.outcome == "unknown_key" and envelope is not None and policy.has_expired(envelope):
        return Classification("expired_unverified", envelope)
    elif classification.outcome == "plaintext":
        return Classification("plaintext", None, classification.item if policy.lets_in_plaintext(None) else None)
    return classification


def _is_expired(classification: Classification, policy: ReadPolicy) -> bool:
    """Whether a row that was classified as if nothing expired is authentic, and has."""
    envelope = classification.envelope
    return classification.outcome in ("ok", "malformed") and envelope is not None and policy.has_expired(envelope)


def _call(classification: Classification) -> Pair | None:
    return None if classification.item is None else answered_by(classification.item)


def _output(classification: Classification) -> Pair | None:
    return None if classification.item is None else answer_to(classification.item)


async def _refuse_expired(history: SealedHistory) -> None:
    """Raise PurgeRefusedError if a store without addressable rows has expired ones."""
    expired = (await history.read(None, {})).counts.count("expired")
    if not expired:
        return
    name = type(history.session).__name__
    way_out = (
        other_purge_of_class(type(history.session))
        or "if no other process writes to this session and its whole history may be deleted, call clear_session()"
    )
    raise PurgeRefusedError(
        f"{expired} expired rows are in a {name}, which can remove its newest row or all rows, but not a single"
        f" old row: both could remove an item that another process adds at that moment. Nothing was removed; {way_out}"
    )
