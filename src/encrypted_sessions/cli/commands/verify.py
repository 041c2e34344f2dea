"""`encrypted-sessions verify`."""

from ... import maintenance
from ..common_options import CommonOptions
from ..options import (
    EXIT_CODES_HELP,
    STORE_HELP,
    Batch,
    JsonLines,
    KeyPrefix,
    KeysURL,
    Kids,
    MaxRowBytes,
    MessagesTable,
    OptionalTTL,
    Realms,
    SessionIDs,
    SessionPrefix,
    SessionsFrom,
    SessionsTable,
    StoreURL,
    UpstreamKey,
    UpstreamUntil,
)
from ..running import run_operation

__all__ = ["HELP", "verify"]

HELP = f"""Open every row, and report those that are not valid.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def verify(
    store: StoreURL,
    *,
    ttl: OptionalTTL = None,
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
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: JsonLines = False,
) -> None:
    """Open every row, and count those that are not in order."""
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
    )
    rings = options.open_rings()
    run_operation("verify", options, maintenance.verify, rings, {"ttl": ttl, **options.for_reading()})
