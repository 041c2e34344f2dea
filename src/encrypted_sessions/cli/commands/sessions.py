"""`encrypted-sessions sessions`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..._support.durations import parse_duration
from ..common_options import CommonOptions
from ..errors import checked
from ..options import (
    STORE_HELP,
    JsonLines,
    KeyPrefix,
    MessagesTable,
    SessionPrefix,
    SessionsTable,
    StoreURL,
)
from ..running import complete

if TYPE_CHECKING:
    from ...maintenance._sessions import SessionList

__all__ = ["HELP", "sessions"]

HELP = f"""List sessions: ids, number of rows, when the oldest and the newest were sealed, and with which keys.

Needs no key: times and keys are what the rows claim. Sessions are listed in the byte order of their ids,
page by page: the last line has the --after of the next page. With --json there is one line per session,
whose id --sessions-from takes unchanged.

{STORE_HELP}

Exit codes: 0 listed, 2 wrong use, 3 interrupted (Ctrl-C), 4 the store does not exist, did not answer, or
refused."""


def sessions(
    store: StoreURL,
    *,
    session_prefix: SessionPrefix = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="TIME",
            show_default=False,
            help="Only sessions whose newest row was sealed longer ago, such as 90d, 12h or 90m.",
        ),
    ] = None,
    kid: Annotated[
        str | None,
        typer.Option("--kid", metavar="KID", show_default=False, help="Only sessions with a row that names this key."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many sessions to list.")] = 1_000,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", show_default=False, help="Only sessions after this id."),
    ] = None,
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: JsonLines = False,
) -> None:
    """List the sessions of a store."""
    from ...arguments import session_id  # noqa: PLC0415 - loads the history of sessions, which `--help` needs not
    from ...maintenance import arguments as checks  # noqa: PLC0415 - likewise maintenance
    from ...maintenance._sessions import list_sessions  # noqa: PLC0415 - as above
    from ...maintenance.session_filter import session_filter  # noqa: PLC0415 - as above
    from .. import session_report  # noqa: PLC0415 - as above
    from ..hints import kid_of_store  # noqa: PLC0415 - as above

    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
    )
    checked(session_filter, None, session_prefix)
    if after is not None:
        checked(session_id, after)
    selection: dict[str, Any] = {
        "session_prefix": session_prefix,
        "older_than_s": None if older_than is None else checked(parse_duration, older_than, "--older-than"),
        "kid": kid,
        "limit": limit,
        "after": after,
    }
    whole_store = options.open_store()
    checked(checks.kid, kid, "--kid", hint=lambda: kid_of_store(str(kid), whole_store))

    async def look() -> "SessionList":
        async with whole_store:
            return await list_sessions(whole_store, **selection)

    found = complete(look())
    format_list = session_report.format_json if as_json else session_report.format_text
    typer.echo(format_list(whole_store.location, found).rstrip())
