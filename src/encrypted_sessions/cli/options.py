"""The options that several commands take, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from ..stores.registry import url_examples
from .durations import whole_seconds

__all__ = [
    "EXIT_CODES_HELP",
    "STORE_HELP",
    "TTL",
    "AllowTriggers",
    "Batch",
    "Export",
    "JsonLines",
    "KeyPrefix",
    "KeysURL",
    "Kids",
    "Limit",
    "MaxRowBytes",
    "MessagesTable",
    "OptionalTTL",
    "Realms",
    "ReplicaWait",
    "SessionIDs",
    "SessionPrefix",
    "SessionsFrom",
    "SessionsTable",
    "StoreURL",
    "UpstreamKey",
    "UpstreamUntil",
    "Yes",
]

# What the help of each command over a store says.
STORE_HELP = f"""STORE is a URL: {url_examples()}, or env:NAME,
the variable that holds one. A password is taken only so."""
EXIT_CODES_HELP = """Exit codes: 0 all is well, 1 something was left that should not be, 2 wrong use, 3 interrupted
(Ctrl-C or SIGTERM: it ends after the current batch, and the next run goes on), 4 the store or a place
of keys is not there, did not answer, or refused."""

_UPSTREAM_HELP = "env:NAME, the variable that holds the string with which the SDK's class wrote rows."
_UNTIL_HELP = """When the last process with that string was switched over, such as 2026-12-01T09:00Z: rows of the
SDK's class stamped later are unauthentic."""

_TTL_HELP = "How long an item lives, such as 90m, 12h or 1d: the ttl of your sessions."

StoreURL = Annotated[str, typer.Argument(metavar="STORE", show_default=False, help="The store's URL, or env:NAME.")]
KeysURL = Annotated[
    list[str] | None,
    typer.Option(
        "--keys",
        metavar="URL",
        envvar="ENCRYPTED_SESSIONS_KEYS",
        show_default=False,
        help="Where your keys are, such as env:SESSION_KEYS. May be given several times: the first place seals.",
    ),
]
Kids = Annotated[
    list[str] | None,
    typer.Option(
        "--kid",
        metavar="KID",
        show_default=False,
        help="Only rows that name this key. May be given several times.  [default: all]",
    ),
]
Realms = Annotated[
    list[str] | None,
    typer.Option(
        "--realm",
        metavar="REALM",
        show_default=False,
        help="The realm of rows of suite 2. May be given several times; '' is the empty one.  [default: '']",
    ),
]
UpstreamKey = Annotated[
    str | None, typer.Option("--upstream-key", metavar="env:NAME", show_default=False, help=_UPSTREAM_HELP)
]
UpstreamUntil = Annotated[
    str | None, typer.Option("--upstream-until", metavar="TIME", show_default=False, help=_UNTIL_HELP)
]
Batch = Annotated[
    int, typer.Option("--batch", metavar="ROWS", min=1, max=10_000, help="Rows read and changed at once.")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="ROWS", min=1, show_default=False, help="Rows changed at most.  [default: all]"),
]
MaxRowBytes = Annotated[
    int, typer.Option("--max-row-bytes", metavar="BYTES", min=1, help="A row with more is too_large, and stays.")
]
SessionsTable = Annotated[str, typer.Option("--sessions-table", metavar="NAME", help="The table of sessions.")]
MessagesTable = Annotated[str, typer.Option("--messages-table", metavar="NAME", help="The table of messages.")]
KeyPrefix = Annotated[str, typer.Option("--key-prefix", metavar="TEXT", help="In Redis: how the keys begin.")]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print lines of JSON: progress, and the report as the last one.")
]
AllowTriggers = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-trigger",
        metavar="NAME",
        show_default=False,
        help="A trigger, generated column or virtual table that may be there. May be given several times.",
    ),
]
ReplicaWait = Annotated[
    str,
    typer.Option(
        "--replica-wait",
        metavar="TIME",
        help="How long replicas have to catch up, such as 60s, 5m or 1h; 0 to look once.",
    ),
]
SessionIDs = Annotated[
    list[str] | None,
    typer.Option(
        "--session",
        metavar="ID",
        show_default=False,
        help="Only this session. May be given several times.",
    ),
]
SessionPrefix = Annotated[
    str | None,
    typer.Option(
        "--session-prefix",
        metavar="TEXT",
        show_default=False,
        help="Only sessions whose ids begin with this, byte for byte.",
    ),
]
SessionsFrom = Annotated[
    str | None,
    typer.Option(
        "--sessions-from",
        metavar="FILE",
        show_default=False,
        help="Only the sessions of a file with one id, or one string of JSON, a line; - for stdin.",
    ),
]
TTL = Annotated[int, typer.Option("--ttl", metavar="TIME", parser=whole_seconds(), show_default=False, help=_TTL_HELP)]
OptionalTTL = Annotated[
    int | None,
    typer.Option("--ttl", metavar="TIME", parser=whole_seconds(or_none=True), show_default=False, help=_TTL_HELP),
]
Export = Annotated[
    str | None,
    typer.Option(
        "--export",
        metavar="FILE",
        show_default=False,
        help="A new file, to which rows are written before they are removed.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without it, what would change is only counted.")]
