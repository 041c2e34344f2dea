"""Who follows a PostgreSQL server: standbys and subscribers that are connected, and slots that are kept for one.

A role that may not read statistics sees that standbys are connected, and not how far they are. Slots everybody sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...errors import StoreError, StoreUnavailableError
from ..replicas import Replica, Replication

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from .connection import PostgreSQLConnections
    from .statements import Statements

__all__ = ["replication_of"]

#: The most bytes that stand at the beginning of a page of the log, before its first record.
_PAGE_HEADER = 40

_GRANT = "Give its role the right to see this (GRANT pg_monitor TO ...)"

_ITSELF = Replica(
    "itself",
    "this server (a standby itself)",
    None,
    "Run this on its primary server, which knows how far every replica is",
    may_catch_up=False,
)


async def replication_of(connections: PostgreSQLConnections, statements: Statements) -> Replication:
    """What the server says. What it refuses to say is `unseen`."""

    async def ask(connection: AsyncConnection) -> Sequence[Any]:
        return (await connection.execute(statements.replication)).all()

    try:
        found = await connections.run(ask, advice=_GRANT)
    except StoreUnavailableError:
        raise
    except StoreError as error:  # a right that was taken away; a server that only speaks as PostgreSQL does
        return Replication(unseen=f"it could not be seen which standbys there are: {error}")
    timeline, log_end, page = found[0][:3]
    if timeline is None:
        return Replication(replicas=(_ITSELF,))
    followers = [row for row in found if row.pid is not None or row.slot is not None]
    hidden = [row for row in followers if row.state is None and row.pid is not None and row.slot_type != "logical"]
    return Replication(
        timeline,
        _end_of_records(log_end, page),
        [_replica(row) for row in followers if row not in hidden],
        _hidden(len(hidden)) if hidden else None,
    )


def _end_of_records(position: int, page: int) -> int:
    """Where the last record ends: where it ends with a page, the next one begins only behind that page's header."""
    offset = position % page
    return position - offset if offset <= _PAGE_HEADER else position


def _replica(row: Any) -> Replica:
    slot = row.slot
    if row.slot_type == "logical":
        return Replica(
            f"slot {slot}",
            f"the subscriber of the logical replication slot {slot}",
            row.confirmed,
            f"Let it catch up, or, if these changes are no longer needed, drop the slot ({_drop(slot)});"
            " then run this again",
        )
    if row.pid is None:
        return Replica(
            f"slot {slot}",
            f"the standby of the replication slot {slot} (not connected)",
            None,
            "Connect it and let it catch up, or, if it and its data no longer exist, drop the slot"
            f" ({_drop(slot)}); then run this again",
        )
    where = f"{row.application} at {row.address or 'this machine'}" + (f" (slot {slot})" if slot else "")
    return Replica(
        f"slot {slot}" if slot else f"{row.application} {row.address}",
        f"the standby {where}",
        row.replayed,
        "Let it catch up (pg_wal_replay_resume() there, if replay is paused), or remove it permanently with its"
        " data; then run this again",
    )


def _drop(slot: str) -> str:
    return f"SELECT pg_drop_replication_slot('{slot}')"


def _hidden(count: int) -> str:
    servers = "1 server is" if count == 1 else f"{count} servers are"
    return (
        f"{servers} connected for replication, and it could not be seen how far"
        f" {'it is' if count == 1 else 'they are'}:"
        f" this role has no right to see that. {_GRANT}, and run this again"
    )
