"""`encrypted-sessions put-back`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import maintenance
from ..common_options import CommonOptions
from ..errors import wrong_use
from ..options import (
    EXIT_CODES_HELP,
    STORE_HELP,
    AllowTriggers,
    Batch,
    JsonLines,
    KeyPrefix,
    KeysURL,
    MaxRowBytes,
    MessagesTable,
    Realms,
    ReplicaWait,
    SessionsTable,
    StoreURL,
    UpstreamKey,
    UpstreamUntil,
    Yes,
)
from ..running import run_operation

if TYPE_CHECKING:
    from ...maintenance import Report

__all__ = ["HELP", "put_back"]

HELP = f"""Put back the rows that discard, purge or erase wrote to a file.

Each row goes back under its primary key, with its time. It is put back only if it opens, and if its
primary key is still free. The whole file is checked first. Without --yes nothing is put back. Redis is
not supported, since its lists have no free positions.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def put_back(
    store: StoreURL,
    *,
    file: Annotated[
        str,
        typer.Option("--from", metavar="FILE", show_default=False, help=("The file that --export of a command wrote.")),
    ],
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Also put back rows that do not open, as unreadable as they were.")
    ] = False,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Accept a file without its last line, as a killed run leaves it.")
    ] = False,
    yes: Yes = False,
    keys: KeysURL = None,
    realm: Realms = None,
    upstream_key: UpstreamKey = None,
    upstream_until: UpstreamUntil = None,
    batch: Batch = 500,
    max_row_bytes: MaxRowBytes = 64 * 2**20,
    allow_trigger: AllowTriggers = None,
    replica_wait: ReplicaWait = "60s",
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: JsonLines = False,
) -> None:
    """Put back the rows of a file."""
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
        allow_triggers=allow_trigger,
        replica_wait=replica_wait,
    )
    rings = options.open_rings()
    arguments: dict[str, Any] = {
        "export": file,
        "unverified": unverified,
        "incomplete": incomplete,
        "dry_run": not yes,
        **options.for_writing(),
    }
    del arguments["limit"]

    async def put_all(*of: Any, **more: Any) -> "Report":
        from ...maintenance.exported_rows import UnfitExportError  # noqa: PLC0415 - `--help` needs no maintenance

        try:
            return await maintenance.put_back(*of, **more)
        except UnfitExportError as error:
            problem = str(error)
        raise wrong_use(problem, "--from", kind="ValueError")

    run_operation("put-back", options, put_all, rings, arguments)
