"""`encrypted-sessions inspect`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ...arguments import session_id
from ..common_options import CommonOptions
from ..errors import checked
from ..exit_codes import FAILED
from ..options import STORE_HELP, JsonLines, KeyPrefix, MessagesTable, SessionsTable, StoreURL
from ..running import complete

if TYPE_CHECKING:
    from ...maintenance._inspect import Inspected

__all__ = ["HELP", "inspect"]

HELP = f"""Show one session's envelopes: key id, age, size. No content; needs no key.

{STORE_HELP}

Exit codes: 0 shown, 1 there is no such session, 2 wrong use, 3 interrupted (Ctrl-C), 4 the store does
not exist, did not answer, or refused."""


def inspect(
    store: StoreURL,
    *,
    session: Annotated[str, typer.Option("--session", metavar="ID", show_default=False, help="The session's id.")],
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: JsonLines = False,
) -> None:
    """Show the envelopes of one session."""
    from ...maintenance._inspect import inspect_session  # noqa: PLC0415 - as the next one
    from .. import reports  # noqa: PLC0415 - they load maintenance and stores, which `--help` needs not
    from ..hints import session_of_store  # noqa: PLC0415 - as the next one

    options = CommonOptions(
        store=store,
        sessions_table=sessions_table,
        messages_table=messages_table,
        key_prefix=key_prefix,
        as_json=as_json,
    )
    whole_store = options.open_store()
    checked(session_id, session)

    async def look() -> "tuple[list[Inspected], str]":
        async with whole_store:
            found = await inspect_session(whole_store, session)
            return found, "" if found or as_json else await session_of_store(session, whole_store)

    rows, meant = complete(look())
    if as_json:
        typer.echo(reports.format_inspected_json(whole_store.location, session, rows))
    else:
        typer.echo(reports.format_inspected_text(whole_store.location, session, rows, meant).rstrip())
    if not rows:
        raise typer.Exit(FAILED)
