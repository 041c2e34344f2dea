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
STORE_HELP = f"""STORE is a URL: {url_examples()}, or env:NAME, a variable
that holds one. A URL with a password must be given that way."""
EXIT_CODES_HELP = """Exit codes: 0 all is well, 1 something is left that should not be, 2 wrong use, 3 interrupted
(Ctrl-C or SIGTERM: it stops after the current batch, and the next run continues), 4 the store or a place of
keys does not exist, did not answer, or refused."""

_UPSTREAM_HELP = "env:NAME, a variable with the string that the SDK's class used as its key."
_UNTIL_HELP = """When the last process with that string was switched over, such as 2026-12-01T09:00Z: later
rows of the SDK's class are unauthentic."""

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
        help="Only rows that name this key id. May be given several times.  [default: all]",
    ),
]
Realms = Annotated[
    list[str] | None,
    typer.Option(
        "--realm",
        metavar="REALM",
        show_default=False,
        help="The realm of rows of suite 2. May be given several times; '' is the empty realm.  [default: '']",
    ),
]
UpstreamKey = Annotated[
    str | None, typer.Option("--upstream-key", metavar="env:NAME", show_default=False, help=_UPSTREAM_HELP)
]
UpstreamUntil = Annotated[
    str | None, typer.Option("--upstream-until", metavar="TIME", show_default=False, help=_UNTIL_HELP)
]
Batch = Annotated[
    int, typer.Option("--batch", metavar="ROWS", min=1, max=10_000, help="How many rows to read and change at once.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="ROWS", min=1, show_default=False, help=("How many rows to change at most.  [default: all]")
    ),
]
MaxRowBytes = Annotated[
    int, typer.Option("--max-row-bytes", metavar="BYTES", min=1, help="A larger row is too_large, and stays.")
]
SessionsTable = Annotated[str, typer.Option("--sessions-table", metavar="NAME", help="The table of sessions.")]
MessagesTable = Annotated[str, typer.Option("--messages-table", metavar="NAME", help="The table of messages.")]
KeyPrefix = Annotated[str, typer.Option("--key-prefix", metavar="TEXT", help="In Redis: the prefix of the keys.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print lines of JSON: progress, and last the report.")]
AllowTriggers = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-trigger",
        metavar="NAME",
        show_default=False,
        help="A trigger, generated column or virtual table to allow. May be given several times.",
    ),
]
ReplicaWait = Annotated[
    str,
    typer.Option(
        "--replica-wait",
        metavar="TIME",
        help="How long to wait for replicas to catch up, such as 60s, 5m or 1h; 0 to check once.",
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
        help="Only sessions whose ids begin with this text, compared byte for byte.",
    ),
]
SessionsFrom = Annotated[
    str | None,
    typer.Option(
        "--sessions-from",
        metavar="FILE",
        show_default=False,
        help="Only the sessions listed in a file, one id or JSON string per line; - for stdin.",
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
Yes = Annotated[bool, typer.Option("--yes", help="Make the changes. Without it, they are only counted.")]
