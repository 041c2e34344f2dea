"""`encrypted-sessions encrypt`."""

from ... import maintenance
from ..common_options import CommonOptions
from ..options import (
    EXIT_CODES_HELP,
    STORE_HELP,
    AllowTriggers,
    Batch,
    JsonLines,
    KeyPrefix,
    KeysURL,
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

__all__ = ["HELP", "encrypt"]

HELP = f"""Seal plaintext rows and, with --upstream-key, rows that the SDK's class wrote.

From then on such a row counts as authentic, whoever wrote it: run this only if you trust everything that
could write to the store. Rows keep their times and positions. Without --yes nothing is sealed, and the exit
code is 1 while there is something to seal.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def encrypt(
    store: StoreURL,
    *,
    yes: Yes = False,
    keys: KeysURL = None,
    session: SessionIDs = None,
    session_prefix: SessionPrefix = None,
    sessions_from: SessionsFrom = None,
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
    """Seal the rows that are plaintext, or of the SDK's class."""
    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
        keys=keys,
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
    arguments = {"dry_run": not yes, **options.for_writing()}
    run_operation("encrypt", options, maintenance.encrypt_plaintext, rings, arguments)
