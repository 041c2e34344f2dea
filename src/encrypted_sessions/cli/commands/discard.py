"""`encrypted-sessions discard`."""

from functools import partial
from typing import Annotated

import typer

from ... import maintenance
from ..common_options import CommonOptions
from ..errors import checked, wrong_use
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
    OptionalTTL,
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

__all__ = ["HELP", "discard"]

HELP = f"""Remove the rows of one outcome that nobody can read now, after writing them to a file.

The file must not exist yet, and only you may read it. It has one JSON object per row. Without --yes
nothing is removed or written. A row of suite 2 that does not open in any given realm may belong to
another realm: with the outcome unauthentic it stays, unless you give --all-realms-given.

{STORE_HELP}

{EXIT_CODES_HELP}"""

_OUTCOMES = (
    "erased, expired_unverified (with --ttl), late_key, malformed, not_yet_valid, plaintext, unauthentic,"
    " unknown_key, unsupported"
)


def discard(
    store: StoreURL,
    *,
    outcome: Annotated[
        str,
        typer.Option(
            "--outcome", metavar="NAME", show_default=False, help=(f"The outcome of the rows to remove: {_OUTCOMES}.")
        ),
    ],
    export: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="FILE",
            show_default=False,
            help="A new file, to which rows are written first. Required with --yes.",
        ),
    ] = None,
    ttl: OptionalTTL = None,
    all_realms_given: Annotated[
        bool,
        typer.Option(
            "--all-realms-given",
            help="With the outcome unauthentic: --realm names every realm, so rows that open in none of them may go.",
        ),
    ] = False,
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
    """Remove the rows of one outcome."""
    from ...maintenance.arguments import discardable  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not

    if yes and export is None:
        raise wrong_use("name a file that does not exist yet: the rows are written to it first", "--export")
    checked(partial(discardable, all_realms_given=all_realms_given), outcome, ttl)
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
    arguments = {"outcome": outcome, "export": export, "ttl": ttl, "dry_run": not yes, **options.for_writing()}
    arguments["all_realms_given"] = all_realms_given
    run_operation("discard", options, maintenance.discard, rings, arguments)
