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
from ..running import run_operation

__all__ = ["HELP", "inventory"]

HELP = f"""Show what is in a store: rows by key, version and outcome, how old and how large.

With keys every row is opened, and it ends with the sentence which keys nothing depends on any more.
Without --keys, and without ENCRYPTED_SESSIONS_KEYS, labels are counted, which prove nothing.

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
            help="End with 1 unless this key is known and nothing depends on it. May be given several times.",
        ),
    ] = None,
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
    from ...maintenance.arguments import kids  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not

    wanted = checked(kids, require_free or None, "--require-free")
    if wanted and not keys:
        raise wrong_use("goes with --keys: labels alone prove nothing", "--require-free")
    rings = options.open_rings() if keys else None
    arguments = {
        "ttl": ttl,
        "require_free": wanted,
        **options.for_reading(),
        "replica_wait_s": options.replica_wait_s(),
    }
    run_operation("inventory", options, maintenance.inventory, rings, arguments)
