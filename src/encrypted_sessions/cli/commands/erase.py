"""`encrypted-sessions erase`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import maintenance
from ..common_options import CommonOptions
from ..errors import wrong_use
from ..options import (
    EXIT_CODES_HELP,
    STORE_HELP,
    AllowTriggers,
    Export,
    JsonLines,
    KeyPrefix,
    MessagesTable,
    ReplicaWait,
    SessionIDs,
    SessionPrefix,
    SessionsFrom,
    SessionsTable,
    StoreURL,
    Yes,
)
from ..running import run_operation
from ..session_options import SESSION_OPTIONS, which_sessions

if TYPE_CHECKING:
    from ...maintenance import Report
    from ...stores.whole import WholeStore

__all__ = ["HELP", "erase"]

HELP = f"""Remove every trace of sessions: their rows, and what the SDK notes about them elsewhere.

Needs no key. Without --yes nothing is removed, and the number of sessions is printed. With
--session-prefix and with --sessions-from, --yes needs that number as --expect, since the prefix user-7
also matches user-70. If a named session does not exist, the exit code is 1, unless you give
--missing-ok. With --export rows are written to a file first, in case an id was a mistake: that file is a
copy that remains.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def erase(
    store: StoreURL,
    *,
    session: SessionIDs = None,
    session_prefix: SessionPrefix = None,
    sessions_from: SessionsFrom = None,
    expect: Annotated[
        int | None,
        typer.Option(
            "--expect",
            metavar="N",
            min=0,
            show_default=False,
            help="How many sessions to erase, as the dry run said. If the number differs, nothing is erased.",
        ),
    ] = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Accept sessions that do not exist.")] = False,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="FILE",
            show_default=False,
            help="A file for one JSON line per erased session. A run with the same file continues.",
        ),
    ] = None,
    export: Export = None,
    yes: Yes = False,
    allow_trigger: AllowTriggers = None,
    replica_wait: ReplicaWait = "60s",
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: JsonLines = False,
) -> None:
    """Remove every trace of some sessions."""
    if not session and session_prefix is None and sessions_from is None:
        raise wrong_use("name the sessions", SESSION_OPTIONS)
    if yes and not session and expect is None:
        raise wrong_use("say how many sessions to erase: the dry run, without --yes, prints the number", "--expect")
    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
        replica_wait=replica_wait,
    )
    arguments: dict[str, Any] = {
        **which_sessions(session, session_prefix, sessions_from),
        "expect": expect,
        "missing_ok": missing_ok,
        "report": report,
        "export": export,
        "dry_run": not yes,
        "allow_triggers": allow_trigger or (),
        "replica_wait_s": options.replica_wait_s(),
    }

    async def erase_all(store: "WholeStore", *_: object, stop: Callable[[], bool], **__: object) -> "Report":
        # Session by session: there is no progress to show.
        return await maintenance.erase(store, **arguments, stop=stop)

    run_operation("erase", options, erase_all, None, {})
