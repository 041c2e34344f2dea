"""Remove what is expired, and nothing else.

A row goes if it is authentic and expired, and if it still is what was classified. An expired tool call
stays while its output is in time: reading leaves that output out because it meets the call, and
would else return it alone, which a model refuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from .._support.shielding import shield
from ..core.envelope import Envelope
from ..core.outcomes import Classification
from ..errors import PurgeRefusedError
from ..stores import PAGE, HistoryMovedError, Row, RowStore, rows_to_purge
from .pairing import Pair, answer_to, answered_by
from .reading import Classifier, ReadPolicy, parse_stored
from .sealed_history import SealedStore, start_again_while_it_moves

#: Rows that `purge_head` looks at, so that a few at the head that must stay are not in its way.
_HEAD = 32


async def purge(store: SealedStore) -> int:
    """Remove all expired rows of a history; how many these were.

    Raises what the key provider raises when it cannot answer, and PurgeRefusedError.
    """
    if store.policy().ttl is None:
        return 0
    rows = _rows(store)
    if rows is None:
        await _refuse_expired(store)
        return 0
    removed = 0

    async def attempt() -> None:
        nonlocal removed
        async for count in _purge_backwards(store, rows):
            removed += count

    await start_again_while_it_moves(attempt)
    return removed


async def purge_head(store: SealedStore, count: int) -> int:
    """Remove up to `count` expired rows among the oldest few; how many these were.

    One read, and one change if something is due. An expired call whose output is not among these
    rows stays, for `purge` to decide.
    """
    policy = store.policy()
    rows = _rows(store)
    if policy.ttl is None or rows is None:
        return 0
    oldest = await rows.oldest(min(max(count, _HEAD), PAGE))
    old = [row for row in oldest if _claims_to_be_expired(row, policy)]
    classifications = await _classify(store, policy).classify(old)
    due: list[Row] = []
    answered: set[Pair | None] = {None}
    for row, classification in zip(reversed(old), reversed(classifications), strict=True):
        if _is_expired(classification, policy):
            if _call(classification) in answered:  # or no call
                due.append(row)
            answered.add(_output(classification))
    return await _remove(rows, due[::-1][:count])


async def _purge_backwards(store: SealedStore, rows: RowStore) -> AsyncIterator[int]:
    """Remove page after page, from the newest row on: so it is known which outputs are in time."""
    policy = store.policy()
    classifier = _classify(store, policy)
    cursor = rows.cursor()
    due: list[Row] = []
    in_time: set[Pair | None] = set()
    complete = False
    while not complete:
        page = await cursor.fetch(None)
        complete = cursor.exhausted
        for row, classification in zip(page, await classifier.classify(page), strict=True):
            if _is_expired(classification, policy):
                call = _call(classification)
                if call is None or call not in in_time:
                    due.append(row)
            else:
                in_time.add(_output(classification))
        # The cursor finds its way from the last row of a page: that one goes with the next page.
        later = [due.pop()] if due and not complete and due[-1] is page[-1] else []
        removed = await _remove(rows, due)
        yield removed
        if rows.IDS_ARE_POSITIONS and removed < len(due):
            raise HistoryMovedError  # what is due has another place now
        due = later


def _rows(store: SealedStore) -> RowStore | None:
    return store.rows if isinstance(store.rows, RowStore) else rows_to_purge(store.session)


async def _remove(rows: RowStore, due: Sequence[Row]) -> int:
    # Also when the waiting task is cancelled: a change that was sent is waited for.
    return await shield(rows.remove_any(due)) if due else 0


def _classify(store: SealedStore, policy: ReadPolicy) -> Classifier:
    # Without a ttl what is expired is opened, which says whether it is a call.
    return Classifier(store.keychain, ReadPolicy(policy.now, None, read_plaintext=True))


def _claims_to_be_expired(row: Row, policy: ReadPolicy) -> bool:
    found = parse_stored(row.data)
    return isinstance(found, Envelope) and policy.has_expired(found.timestamp)


def _is_expired(classification: Classification, policy: ReadPolicy) -> bool:
    """Whether a row that was classified without a ttl is authentic, and older than the ttl."""
    if classification.outcome not in ("ok", "malformed") or classification.timestamp is None:
        return False
    return policy.has_expired(classification.timestamp)


def _call(classification: Classification) -> Pair | None:
    return None if classification.item is None else answered_by(classification.item)


def _output(classification: Classification) -> Pair | None:
    return None if classification.item is None else answer_to(classification.item)


async def _refuse_expired(store: SealedStore) -> None:
    """Raise PurgeRefusedError if a store without addressable rows has expired ones."""
    expired = (await store.scan(None, {})).counts.count("expired")
    if not expired:
        return
    name = type(store.session).__name__
    way_out = (
        "the command 'encrypted-sessions purge' removes them from its file"
        if name == "AdvancedSQLiteSession"
        else "if no other process writes to this session and all of it may go, clear_session() removes it"
    )
    raise PurgeRefusedError(
        f"{expired} expired rows lie in a {name}, which can remove its newest row, or all, but no old row by itself:"
        f" either could take an item that another process adds at that moment. Nothing was removed; {way_out}"
    )
