"""`encrypted-sessions inventory`."""

from typing import Annotated

import typer

from ... import maintenance
from ..common_options import CommonOptions
from ..errors import checked, wrong_use
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
    ReplicaWait,
    SessionIDs,
    SessionPrefix,
    SessionsFrom,
    SessionsTable,
    StoreURL,
    UpstreamKey,
    UpstreamUntil,
)
from ..page_file import PageFile
from ..running import run_operation

__all__ = ["HELP", "inventory"]

HELP = f"""Show what is in a store: rows by key, version and outcome, with their age and size.

With keys, every row is opened, and the last sentence says which keys are no longer needed. Without
--keys and without ENCRYPTED_SESSIONS_KEYS, labels are counted, which prove nothing.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def inventory(
    store: StoreURL,
    *,
    ttl: OptionalTTL = None,
    require_free: Annotated[
        list[str] | None,
        typer.Option(
            "--require-free",
            metavar="KID",
            show_default=False,
            help="Exit with 1 unless this key is known and nothing depends on it. May be given several times.",
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Also write an HTML page, one file that loads nothing else; - prints only the page.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --html if it exists.")] = False,
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
    replica_wait: ReplicaWait = "60s",
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: JsonLines = False,
) -> None:
    """Count the rows of a store, and say which keys they need."""
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
        replica_wait=replica_wait,
    )
    wanted = options.checked_kids(require_free, "--require-free", keys) if require_free else ()
    if wanted and not keys:
        raise wrong_use("goes with --keys: labels alone prove nothing", "--require-free")
    page = checked(PageFile.open, html, force) if html is not None else None
    if page is not None and page.is_stdout and as_json:
        raise wrong_use("- and --json would both go to stdout", "--html")
    rings = options.open_rings() if keys else None
    arguments = {
        "ttl": ttl,
        "require_free": wanted,
        **options.for_reading(),
        "replica_wait_s": options.replica_wait_s(),
    }
    run_operation("inventory", options, maintenance.inventory, rings, arguments, None if page is None else page.write)
