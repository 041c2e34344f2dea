"""The application: which commands there are, in the order in which `--help` lists them."""

# No `from __future__ import annotations`, as in `commands`.
from typing import Annotated

import typer

from .audit import begin_audit
from .command_classes import HELP_OPTIONS, use_classes
from .commands import (
    audit,
    completion,
    demo,
    discard,
    doctor,
    encrypt,
    erase,
    inspect,
    inventory,
    keygen,
    keys,
    purge,
    put_back,
    reencrypt,
    sessions,
    verify,
)
from .log_level import LogLevel

__all__ = ["app"]

_HELP = """Encrypted, expiring sessions for AI agents: create and check keys, work on stores.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 interrupted (Ctrl-C), 4 a store or a place of keys did
not answer, or refused."""

# Plain text, which reads the same in a terminal, a pipe and a log. Plain tracebacks, should there be
# a bug: typer's own show local variables.
app = typer.Typer(
    help=_HELP,
    context_settings=HELP_OPTIONS,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(context: typer.Context, wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the value
    # Of a typer and a click that do not fit, the option has had the value 'False' on every call: each command
    # printed the version, did nothing, and ended well. So only what was really given counts.
    source = context.get_parameter_source("version")
    if wanted is True and source is not None and source.name == "COMMANDLINE":
        from importlib.metadata import version  # noqa: PLC0415 - seldom asked

        typer.echo(f"encrypted-sessions {version('encrypted-sessions')}")
        raise typer.Exit


@app.callback()
def _top(
    context: typer.Context,
    *,
    audit_log: Annotated[
        str | None,
        typer.Option(
            "--audit-log",
            metavar="FOLDER",
            envvar="ENCRYPTED_SESSIONS_AUDIT_LOG",
            show_default=False,
            help="Write what the command does to a new file in this folder.",
        ),
    ] = None,
    audit_refuse: Annotated[
        bool, typer.Option("--audit-refuse", help="Refuse to do what cannot be written there first.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback does all
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
    log_level: LogLevel = None,  # noqa: ARG001 - likewise
) -> None:
    begin_audit(context, audit_log, refuse=audit_refuse)


app.command(help=keygen.HELP, short_help="Print a new key.")(keygen.keygen)
app.command(help=demo.HELP, short_help="Show an encrypted conversation of a real agent.")(demo.demo)
app.command(help=doctor.HELP, short_help="Check that keys can be fetched and used.")(doctor.doctor)
app.command(help=inventory.HELP, short_help="Show what is in a store, and which keys it needs.")(inventory.inventory)
app.command(help=verify.HELP, short_help="Open every row, and report those that are not valid.")(verify.verify)
app.command(help=inspect.HELP, short_help="Show one session's envelopes, without a key.")(inspect.inspect)
app.command(help=sessions.HELP, short_help="List sessions by their labels, without a key.")(sessions.sessions)
app.command(help=reencrypt.HELP, short_help="Seal again what older keys sealed.")(reencrypt.reencrypt)
app.command(help=encrypt.HELP, short_help="Seal plaintext rows, and rows of the SDK's class.")(encrypt.encrypt)
app.command(help=purge.HELP, short_help="Remove expired rows.")(purge.purge)
app.command(help=discard.HELP, short_help="Remove rows that nobody can read.")(discard.discard)
app.command(help=erase.HELP, short_help="Remove every trace of sessions, without a key.")(erase.erase)
app.command("put-back", help=put_back.HELP, short_help="Put back the rows of an export.")(put_back.put_back)
app.command(help=completion.HELP, short_help="Print a script that completes this command in a shell.")(
    completion.completion
)
app.add_typer(keys.app, name="keys", short_help="Create and change a keyset that a fleet shares.")
app.add_typer(audit.app, name="audit", short_help="Verify an audit log.")

use_classes(app)
