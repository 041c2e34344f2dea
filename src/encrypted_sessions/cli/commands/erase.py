"""`encrypted-sessions erase`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import maintenance
from ..common_options import CommonOptions
from ..errors import checked
from ..options import (
    EXIT_CODES_HELP,
    STORE_HELP,
    AllowTriggers,
    Export,
    JsonLines,
    KeyPrefix,
    MessagesTable,
    ReplicaWait,
    SessionsTable,
    StoreURL,
    Yes,
)
from ..running import run_operation

if TYPE_CHECKING:
    from ...maintenance import Report
    from ...stores.whole import WholeStore

__all__ = ["HELP", "erase"]

HELP = f"""Remove every trace of some sessions: rows, and what the SDK notes about them elsewhere.

Needs no key. Without --yes nothing is removed. With --export rows are written to a file first, for a
mistaken id: it is a copy that remains.

{STORE_HELP}

{EXIT_CODES_HELP}"""


def erase(
    store: StoreURL,
    *,
    session: Annotated[
        list[str],
        typer.Option("--session", metavar="ID", show_default=False, help="A session's id. May be given several times."),
    ],
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
    from ...maintenance.arguments import sessions  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not

    checked(sessions, session)
    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
        replica_wait=replica_wait,
    )
    arguments: dict[str, Any] = {
        "export": export,
        "dry_run": not yes,
        "allow_triggers": allow_trigger or (),
        "replica_wait_s": options.replica_wait_s(),
    }

    async def erase_all(store: "WholeStore", *_: object, stop: Callable[[], bool], **__: object) -> "Report":
        # Session by session: there is no progress to show.
        return await maintenance.erase(store, session, **arguments, stop=stop)

    run_operation("erase", options, erase_all, None, {})
