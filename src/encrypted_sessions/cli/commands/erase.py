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

HELP = f"""Remove every trace of some sessions: rows, and what the SDK notes about them elsewhere.

Needs no key. Without --yes nothing is removed, and it is said how many sessions there are: with --session-prefix and
with --sessions-from, --yes needs that number as --expect, since user-7 begins user-70, too. Exit code 1 also where a
session that was named is not there (--missing-ok). With --export
rows are written to a file first, for a mistaken id: it is a copy that remains.

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
            help="How many sessions are to go, as the dry run said. With another number nothing is erased.",
        ),
    ] = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="A session that is not there is well, too.")] = False,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="FILE",
            show_default=False,
            help="Gets a line of JSON for each session that is gone. A run with the same file goes on.",
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
        raise wrong_use("say how many sessions are to go: the dry run, without --yes, names the number", "--expect")
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
