"""`encrypted-sessions reencrypt`."""

from typing import Annotated

import typer

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
    Kids,
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

With several places of keys it has to know which rows, by --kid or --all-sessions: every row that it
opens comes under the key of the first place, another tenant's too. Then it runs dry without --yes.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def reencrypt(
    store: StoreURL,
    *,
    from_kid: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="KID", show_default=False, help="The same as --kid."),
    ] = None,
    all_sessions: Annotated[
        bool, typer.Option("--all-sessions", help="With several places of keys: whatever one of them opens.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With several places of keys: do it. Else it is only counted.")
    ] = False,
    keys: KeysURL = None,
    session: SessionIDs = None,
    session_prefix: SessionPrefix = None,
    sessions_from: SessionsFrom = None,
    kid: Kids = None,
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
    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
        keys=keys,
        kids=[*(kid or ()), *CommonOptions.checked_kids(from_kid, "--from", keys)] if from_kid else kid,
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
    dry_run = len(rings) > 1 and not yes
    arguments = {"all_sessions": all_sessions, "dry_run": dry_run, **options.for_writing()}
    run_operation("reencrypt", options, maintenance.reencrypt, rings, arguments)
