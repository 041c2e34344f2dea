"""Which sessions a store has, by the labels of their rows, in the order of their ids. It needs no key."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from .. import arguments as checks
from ..core.envelope import Envelope, parse_row
from ..core.kids import shown_kid
from ..stores.whole import StoredRow, WholeStore
from . import arguments
from .session_filter import GROUP, session_filter
from .telling import told

__all__ = ["ListedSession", "SessionList", "list_sessions"]

#: Rows read at once, and ids fetched at once where some of them may be left out.
_ROWS = 500
_IDS = 5_000

#: So many kids of a session are named.
_MOST_KIDS = 100


class ListedSession(NamedTuple):
    """One session, as its rows claim.

    Attributes:
        session_id: Its id.
        rows: How many rows it has; it may have none.
        oldest: When the oldest of its sealed rows says it was sealed, in seconds since 1970; None without one.
        newest: When the newest of them says so.
        kids: The kids that its rows name, in their order, up to 100.
    """

    session_id: str
    rows: int
    oldest: int | None
    newest: int | None
    kids: tuple[str, ...]


class SessionList(NamedTuple):
    """Some sessions, and whether there are more.

    Attributes:
        sessions: Them, in the byte order of their ids.
        after: The id after which the next page begins; None at the end.
    """

    sessions: tuple[ListedSession, ...]
    after: str | None


@told("sessions")
async def list_sessions(
    store: WholeStore,
    *,
    session_prefix: str | None = None,
    older_than_s: float | None = None,
    kid: str | None = None,
    limit: int = 1_000,
    after: str | None = None,
) -> SessionList:
    """A page of the sessions, up to `limit`; no content, no token.

    Args:
        store: A store from `open_store`, entered with `async with`.
        session_prefix: How their ids begin, compared byte for byte; None for all.
        older_than_s: Only those whose newest sealed row says that it is older, in seconds.
        kid: Only those of which a row names this key.
        limit: How many sessions.
        after: Only those whose ids come after this one in the order of bytes.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store cannot be used.
    """
    session_filter(None, session_prefix)
    arguments.kid(kid, "kid")
    after = None if after is None else checks.session_id(after)
    sealed_before = None if older_than_s is None else time.time() - older_than_s
    takes_all = kid is None and sealed_before is None
    found: list[ListedSession] = []
    at_once = min(limit + 1, _IDS) if takes_all else _IDS
    async with aclosing(_pages(store, session_prefix or "", after, at_once)) as pages:
        async for ids in pages:
            step = min(GROUP, limit) if takes_all else GROUP
            for start in range(0, len(ids), step):
                if len(found) == limit:
                    return SessionList(tuple(found), found[-1].session_id)
                for one in await _looked_at(store, ids[start : start + step]):
                    if kid is not None and kid not in one.kids:
                        continue
                    if sealed_before is not None and (one.newest is None or one.newest >= sealed_before):
                        continue
                    if len(found) == limit:
                        return SessionList(tuple(found), found[-1].session_id)
                    found.append(one)
    return SessionList(tuple(found), None)


async def _pages(store: WholeStore, prefix: str, after: str | None, at_once: int) -> AsyncGenerator[list[str], None]:
    while page := await store.session_ids(prefix, after, at_once):
        yield page
        after = page[-1]


async def _looked_at(store: WholeStore, ids: Sequence[str]) -> list[ListedSession]:
    rows, times, kids = dict.fromkeys(ids, 0), dict[str, tuple[int, int]](), dict[str, set[str]]()
    last: StoredRow | None = None
    while page := await store.rows_of_sessions(ids, last, _ROWS):
        last = page[-1]
        for row in page:
            session_id = row.session_id
            rows[session_id] += 1
            label = None if row.unread is not None else parse_row(row.data)
            if not isinstance(label, Envelope):
                continue
            stamp = label.timestamp
            oldest, newest = times.get(session_id, (stamp, stamp))
            times[session_id] = min(oldest, stamp), max(newest, stamp)
            named = kids.setdefault(session_id, set())
            if (shown := shown_kid(label.kid)) is not None and len(named) < _MOST_KIDS:
                named.add(shown)
    listed = []
    for one in ids:
        oldest_of, newest_of = times.get(one, (None, None))
        listed.append(ListedSession(one, rows[one], oldest_of, newest_of, tuple(sorted(kids.get(one, ())))))
    return listed
