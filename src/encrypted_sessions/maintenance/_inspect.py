"""A look at one session's envelopes. It needs no key, and proves nothing."""

from __future__ import annotations

import time
from typing import NamedTuple

from ..arguments import session_id as checked_id
from ..core.envelope import Envelope, parse_row
from ..core.kids import shown_kid
from ..stores.whole import HAS_NULL, StoredRow, WholeStore
from .telling import told

__all__ = ["Inspected", "inspect_session"]

#: Rows read at once.
_PAGE = 500


class Inspected(NamedTuple):
    """What one row claims to be.

    Attributes:
        row_id: The primary key, or the place in a Redis list.
        form: "version 1", "version 2", "plaintext", "malformed", "too_large" or "unsupported".
        kid: The kid that it names; None where it names none, or something that is no kid.
        timestamp: When it says it was sealed, in seconds since 1970.
        age_s: The seconds since then.
        created_at: The row's own time, where the store keeps one.
        size: The stored bytes.
        expires: The end that its writer set, in seconds since 1970; None where it set none, or its suite has none.
    """

    row_id: str
    form: str
    kid: str | None
    timestamp: int | None
    age_s: float | None
    created_at: float | None
    size: int
    expires: int | None = None


@told("inspect")
async def inspect_session(store: WholeStore, session_id: str) -> list[Inspected]:
    """The rows of one session, the oldest first; no content, no token. Raises StoreError."""
    checked_id(session_id)
    now = time.time()
    found: list[Inspected] = []
    last: StoredRow | None = None
    while rows := await store.session_rows(session_id, last, _PAGE):
        found += [_inspected(row, now) for row in rows]
        last = rows[-1]
    return found


def _inspected(row: StoredRow, now: float) -> Inspected:
    row_id = str(row.id[-1] if isinstance(row.id, tuple) else row.id)
    if row.unread is not None:
        form = "malformed" if row.unread == HAS_NULL else "too_large"
        return Inspected(row_id, form, None, None, None, row.created_at, row.size)
    parsed = parse_row(row.data)
    if isinstance(parsed, Envelope):
        stamp, form, kid = parsed.timestamp, f"version {parsed.version}", shown_kid(parsed.kid)
        return Inspected(row_id, form, kid, stamp, now - stamp, row.created_at, row.size, parsed.expires)
    form = "plaintext" if isinstance(parsed, dict) else parsed
    return Inspected(row_id, form, None, None, None, row.created_at, row.size)
