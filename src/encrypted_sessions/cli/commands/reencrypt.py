"""`encrypted-sessions reencrypt`."""

from typing import Annotated, Any

import typer

from ... import maintenance
from ..._support.unset import UNSET
from ..common_options import CommonOptions
from ..durations import whole_seconds
from ..errors import checked
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

__all__ = ["HELP", "reencrypt"]

HELP = f"""Seal rows of older keys again under the active key.

Every item keeps its time, so nothing lives longer. Agents may read and write meanwhile. The command may
be stopped, killed and run again, even twice at once; a second run changes nothing.

Each row stays in its suite and its --realm, with the end that its writer set. --suite 2 moves all rows
to suite 2, and needs --ttl, since rows of suite 1 have no end of their own. --suite 1 moves them back,
without the ends, and does not take --realm.

With several places of keys, say which rows to seal, with --kid or --all-sessions: every row that is
opened gets the key of the first place, including other tenants' rows. In that case nothing is changed
without --yes.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def _ttl(given: object) -> int | str:
    """Seconds, or "none": None stands for a ttl that was not given."""
    return whole_seconds(or_none=True)(given) or "none"


def reencrypt(
    store: StoreURL,
    *,
    from_kid: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="KID", show_default=False, help="The same as --kid."),
    ] = None,
    all_sessions: Annotated[
        bool, typer.Option("--all-sessions", help="With several places of keys: every row that one of them opens.")
    ] = False,
    suite: Annotated[
        int | None,
        typer.Option(
            "--suite", metavar="1|2", show_default=False, help="The suite to move rows to.  [default: each row's own]"
        ),
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl",
            metavar="TIME",
            parser=_ttl,
            show_default=False,
            help="With --suite 2: how long rows of suite 1 live, counted from their sealing, such as 1d; or none.",
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help=("With several places of keys: make the changes. Without it, they are only counted.")
        ),
    ] = False,
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
    """Seal again what older keys sealed."""
    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
        keys=keys,
        kids=[*(kid or ()), *CommonOptions.checked_kids(from_kid, "--from", keys)] if from_kid else kid,
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
    moving = _moving(suite, ttl, options.for_opening())
    dry_run = len(rings) > 1 and not yes
    arguments = {"all_sessions": all_sessions, "dry_run": dry_run, **moving, **options.for_writing()}
    run_operation("reencrypt", options, maintenance.reencrypt, rings, arguments)


def _moving(suite: int | None, ttl: int | str | None, opening: dict[str, Any]) -> dict[str, Any]:
    """The arguments that say which suite rows come to. Ends the command where they do not go together."""
    from ...maintenance import arguments as checks  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not
    from ...maintenance.realms import Realms  # noqa: PLC0415 - likewise

    given = {"suite": suite} if ttl is None else {"suite": suite, "ttl": None if ttl == "none" else ttl}
    checked(checks.suite, suite, given.get("ttl", UNSET), Realms(opening.get("realm", "")))
    return given
