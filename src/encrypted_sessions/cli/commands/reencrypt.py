"""`encrypted-sessions reencrypt`."""

from typing import Annotated

import typer

from ... import maintenance
from ..common_options import CommonOptions
from ..errors import checked
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
    ReplicaWait,
    SessionIDs,
    SessionPrefix,
    SessionsFrom,
    SessionsTable,
    StoreURL,
    UpstreamKey,
    UpstreamUntil,
)
from ..running import run_operation

__all__ = ["HELP", "reencrypt"]

HELP = f"""Seal again under the active key what older keys sealed.

Every item keeps its time, so nothing lives longer. Agents may read and write meanwhile. It may be
stopped, killed and run again, also twice at once; a second run changes nothing.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def reencrypt(
    store: StoreURL,
    *,
    from_kid: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="KID",
            show_default=False,
            help="Only what this key sealed.  [default: all but the active one]",
        ),
    ] = None,
    keys: KeysURL = None,
    session: SessionIDs = None,
    session_prefix: SessionPrefix = None,
    sessions_from: SessionsFrom = None,
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
    """Seal again what older keys sealed."""
    from ...maintenance.arguments import kid  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not

    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
        keys=keys,
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
    ring = options.open_ring()
    arguments = {"from_kid": checked(kid, from_kid, "--from"), **options.for_writing()}
    run_operation("reencrypt", options, maintenance.reencrypt, ring, arguments)
