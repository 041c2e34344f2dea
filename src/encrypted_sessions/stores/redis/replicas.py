"""Who follows a Redis server: the replicas that are connected. It knows of no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..replicas import Replica, Replication
from .connection import RedisConnection

__all__ = ["replication_of"]

_UNSEEN = (
    "it could not be seen which replicas there are: the user has no right to ask, or the server does not tell. Give it"
    " the right (ACL SETUSER ... +info), and run this again"
)
_ITSELF = Replica(
    "itself",
    "this server (a replica itself)",
    None,
    "Run this on its primary server: changes made here are lost when it next copies the rows of its primary",
    may_catch_up=False,
)


async def replication_of(connection: RedisConnection) -> Replication:
    """What the server says. What it refuses to say is `unseen`."""
    server, found = await connection.run_if_allowed([("INFO", "server"), ("INFO", "replication")])
    if not isinstance(found, Mapping) or not isinstance(server, Mapping):
        return Replication(unseen=_UNSEEN)
    if found.get("role") not in (None, "master"):
        return Replication(replicas=(_ITSELF,))
    end = _number(found.get("master_repl_offset"))
    if end is None:
        return Replication(unseen=_UNSEEN)
    told = [value for name, value in found.items() if name.startswith("slave") and isinstance(value, Mapping)]
    # The id of the process. That of the log (master_replid) is a new one as well when the first replica comes.
    log = str(server.get("run_id", ""))
    return Replication(log, end, [_replica(one) for one in told])


def _replica(told: Mapping[str, Any]) -> Replica:
    where, state = f"{told.get('ip')}:{told.get('port')}", told.get("state")
    is_online = state == "online"
    return Replica(
        where,
        f"the replica {where}" + ("" if is_online else f" ({state})"),
        _number(told.get("offset")) if is_online else None,
        "Let it catch up, or remove it permanently with its data; then run this again",
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
