"""The command `encrypted-sessions`: parse, call, print."""

# No `from __future__ import annotations`: typer reads the annotations of functions made in a function.
import signal
import sys
from typing import TYPE_CHECKING, Annotated

from .exit_codes import FAILED, INTERRUPTED
from .keys import add_keys
from .maintenance import Asked, add_maintenance, examined

if TYPE_CHECKING:
    import typer

_EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong use, 3 interrupted (Ctrl-C)."

_ABOUT = f"""Encrypted, expiring sessions for AI agents: make keys, check and change them, see a demonstration.

{_EXIT_CODES}"""

_KEYGEN = f"""Print a new key: 32 random bytes as urlsafe base64, one line, and nothing else.

Nothing is kept. Put the key where your application finds it and nobody else, never into code or a
repository; whoever loses it loses what it has sealed. In an environment variable, for instance:

\b
  export SESSION_KEYS="$(encrypted-sessions keygen)"
  KeyRing.from_url("env:SESSION_KEYS")

A variable may hold several keys, name=key, separated by commas. The first one seals; the others
still open what they sealed before. So a key is rotated by putting a new one first.

{_EXIT_CODES}"""

_DEMO = f"""Show an encrypted conversation of a real agent, and check what is shown.

It is held, killed, started again in a new process, its key is rotated, its items expire, and a
wrong key explains itself. No network, no API key, a few seconds; nothing is left behind, unless
--store says where to keep it.

{_EXIT_CODES}"""

_DOCTOR = """Check that keys can be had and used, and say what to do where they cannot.

It goes the way of an application: opens the provider, fetches the active key, finds it again as
another process would, seals a probe and reads it back. It says how long each step took, how old the
key is, what a process would do in an outage, and whether another package took the place of
keyproviders. No secret is printed and nothing is written; the probe is kept in memory.

Exit codes: 0 all is well, 1 something is not, 2 wrong use, 3 interrupted (Ctrl-C)."""

_DOCTOR_STORE = "Also ask for every key that this store's rows name: would a process be able to read them?"
_KEYS = (
    "Where your keys are, such as env:SESSION_KEYS. They are only read: the rotation and the wrong key are left out."
    "  [default: keys of the demo's own]"
)
_STORE = (
    "Where to keep the conversation, and leave it: the path of an SQLite file, an SQLAlchemy URL with an async driver"
    " (postgresql+asyncpg://host/name) or a Redis URL (redis://host:6379/0).  [default: a temporary SQLite file]"
)


def main() -> None:
    """Run the command; the entry point of the package."""
    for name in ("SIGTERM", "SIGHUP"):
        told_to_end = getattr(signal, name, None)
        if told_to_end is not None and signal.getsignal(told_to_end) is signal.SIG_DFL:
            # As by Ctrl-C, so that the demo removes its folder.
            signal.signal(told_to_end, signal.default_int_handler)
    try:
        application()(prog_name="encrypted-sessions")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as missing:
        package = str(missing.name).partition(".")[0]
        if package not in {"rich", "typer"}:
            raise
        sys.exit(
            f"Error: the command needs the package {package}, which is not installed."
            " Run: pip install 'encrypted-sessions[cli]'"
        )


def application() -> "typer.Typer":
    """The command as a typer application. Raises ModuleNotFoundError without the extra [cli]."""
    import typer  # noqa: PLC0415 - only the command needs it, and it may be missing

    # Plain text, which reads the same in a terminal, a pipe and a log. Plain tracebacks, should there
    # be a bug: typer's own show local variables.
    app = typer.Typer(
        help=_ABOUT,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    def print_version(context: typer.Context, wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the value
        # Of a typer and a click that do not fit, the option has had the value 'False' on every call: each command
        # printed the version, did nothing, and ended well. So only what was really given counts.
        source = context.get_parameter_source("version")
        if wanted is True and source is not None and source.name == "COMMANDLINE":
            from importlib.metadata import version  # noqa: PLC0415 - seldom asked

            typer.echo(f"encrypted-sessions {version('encrypted-sessions')}")
            raise typer.Exit

    @app.callback()
    def top(
        *,
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and exit.")
        ] = False,
    ) -> None:
        pass

    @app.command(help=_KEYGEN, short_help="Print a new key.")
    def keygen() -> None:
        from keyproviders import Key  # noqa: PLC0415 - `--help` and `--version` need no cryptography

        typer.echo(Key.generate().reveal_base64())

    @app.command(help=_DEMO, short_help="Show an encrypted conversation of a real agent.")
    def demo(
        keys: Annotated[
            str | None,
            typer.Option("--keys", metavar="URL", envvar="ENCRYPTED_SESSIONS_KEYS", show_default=False, help=_KEYS),
        ] = None,
        store: Annotated[str | None, typer.Option("--store", metavar="URL", show_default=False, help=_STORE)] = None,
    ) -> None:
        try:
            from ..demo.conversation import DemoError, WrongUseError, run  # noqa: PLC0415 - loads rich

            try:
                run(keys, store)
            except WrongUseError as error:
                raise typer.BadParameter(str(error), param_hint=error.option) from None
            except DemoError as error:
                typer.echo(f"Error: {error}", err=True)
                raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None

    _add_doctor(app)
    add_keys(app)
    add_maintenance(app)
    return app


def _add_doctor(app: "typer.Typer") -> None:
    import typer  # noqa: PLC0415 - as in `application`

    @app.command(help=_DOCTOR, short_help="Check that keys can be had and used.")
    def doctor(
        url: Annotated[
            str | None,
            typer.Argument(
                metavar="URL",
                envvar="ENCRYPTED_SESSIONS_KEYS",
                show_default=False,
                help="Where your keys are, such as env:SESSION_KEYS.",
            ),
        ] = None,
        *,
        store: Annotated[
            str | None, typer.Option("--store", metavar="STORE", show_default=False, help=_DOCTOR_STORE)
        ] = None,
        upstream_key: Annotated[
            str | None,
            typer.Option(
                "--upstream-key", metavar="env:NAME", show_default=False, help="With --store: as sessions have it."
            ),
        ] = None,
        sessions_table: Annotated[str, typer.Option(metavar="NAME", help="With --store.")] = "agent_sessions",
        messages_table: Annotated[str, typer.Option(metavar="NAME", help="With --store.")] = "agent_messages",
        key_prefix: Annotated[str, typer.Option(metavar="TEXT", help="With --store, in Redis.")] = "agents:session",
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    ) -> None:
        import asyncio  # noqa: PLC0415 - only commands that do something need these
        import logging  # noqa: PLC0415 - likewise

        from ..doctor import report  # noqa: PLC0415 - likewise
        from ..doctor.examination import examine  # noqa: PLC0415 - likewise

        # What goes wrong is told once, as a finding.
        logging.getLogger("keyproviders").addHandler(logging.NullHandler())
        try:
            found = asyncio.run(examine(url))
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        told = report.as_json(found) if as_json else report.in_words(found).rstrip()
        well = found.ok
        if store is not None and not found.ok:  # without keys there is nothing to ask
            told = _with_store(told, None, as_json=as_json)
        elif store is not None:
            asked = Asked(store, sessions_table, messages_table, key_prefix, as_json, url, upstream_key)
            more, well = examined(asked)
            told = _with_store(told, more, as_json=as_json)
        typer.echo(told)
        if not well:
            raise typer.Exit(FAILED)


def _with_store(told: str, more: "str | dict[str, object] | None", *, as_json: bool) -> str:
    if not as_json:
        return f"{told}\n\n{more or 'The store was not looked at: first mend what is said above.'}"
    import json  # noqa: PLC0415 - seldom asked

    return json.dumps({**json.loads(told), "store": more}, indent=2)
