"""`encrypted-sessions purge`."""

from ... import maintenance
from ..common_options import CommonOptions
from ..options import (
    EXIT_CODES_HELP,
    STORE_HELP,
    TTL,
    AllowTriggers,
    Batch,
    Export,
    JsonLines,
    KeyPrefix,
    KeysURL,
    Kids,
    Limit,
    MaxRowBytes,
    MessagesTable,
    Realms,
    ReplicaWait,
    SessionIDs,
    SessionPrefix,
    SessionsFrom,
    SessionsTable,
    StoreURL,
    UpstreamKey,
    UpstreamUntil,
    Yes,
)
from ..running import run_operation

__all__ = ["HELP", "purge"]

HELP = f"""Remove authentic rows that are older than --ttl, or past the end that their writer set, and nothing else.

Rows that cannot be opened stay, and are counted. Without --yes nothing is removed.
With --export rows are written to a file first; put-back can restore them from it.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def purge(
    store: StoreURL,
    *,
    ttl: TTL,
    export: Export = None,
    yes: Yes = False,
    keys: KeysURL = None,
    session: SessionIDs = None,
    session_prefix: SessionPrefix = None,
    sessions_from: SessionsFrom = None,
    kid: Kids = None,
    realm: Realms = None,
    upstream_key: UpstreamKey = None,
    upstream_until: UpstreamUntil = None,
    batch: Batch = 500,
    max_row_bytes: MaxRowBytes = 64 * 2**20,
    limit: Limit = None,
    allow_trigger: AllowTriggers = None,
    replica_wait: ReplicaWait = "60s",
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: JsonLines = False,
) -> None:
    """Remove the rows that expired."""
    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
        keys=keys,
        kids=kid,
        realms=realm,
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        sessions=session,
        session_prefix=session_prefix,
        sessions_from=sessions_from,
        limit=limit,
        allow_triggers=allow_trigger,
        replica_wait=replica_wait,
    )
    rings = options.open_rings()
    arguments = {"ttl": ttl, "export": export, "dry_run": not yes, **options.for_writing()}
    run_operation("purge", options, maintenance.purge, rings, arguments)
