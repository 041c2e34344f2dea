"""The commands that work over a whole store: parse, call, print."""

# No `from __future__ import annotations`, as in `app`.
import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from keyproviders import redact_frames

from .._support.terminal import printable
from .exit_codes import FAILED, INTERRUPTED

if TYPE_CHECKING:
    import typer

    from keyproviders import KeyRing

    from ..maintenance import Report
    from ..maintenance._inspect import Inspected
    from ..stores.whole import WholeStore
    from .progress import Stop

_EXIT_CODES = """Exit codes: 0 all is well, 1 something was left that should not be, 2 wrong use, 3 interrupted
(Ctrl-C or SIGTERM: it ends after the current batch, and the next run goes on)."""

_STORE = """STORE is a URL: sqlite:///agents.db, postgresql://user@host/name or redis://host:6379/0, or env:NAME,
the variable that holds one. A password is taken only so."""

_INVENTORY = f"""Show what is in a store: rows by key, version and outcome, how old and how large.

With keys every row is opened, and it ends with the sentence which keys nothing depends on any more.
Without --keys, and without ENCRYPTED_SESSIONS_KEYS, labels are counted, which prove nothing.

{_STORE}

{_EXIT_CODES}"""

_VERIFY = f"""Open every row, and say which are not in order.

{_STORE}

{_EXIT_CODES}"""

_PURGE = f"""Remove what is authentic and older than --ttl, and nothing else.

What cannot be opened stays, and is counted. Without --yes nothing is removed.

{_STORE}

{_EXIT_CODES}"""

_REENCRYPT = f"""Seal again under the active key what older keys sealed.

Every item keeps its time, so nothing lives longer. Agents may read and write meanwhile. It may be
stopped, killed and run again, also twice at once; a second run changes nothing.

{_STORE}

{_EXIT_CODES}"""

_ENCRYPT = f"""Seal what is plaintext and, with --upstream-key, what the SDK's class wrote.

From then on such a row counts as authentic, whoever wrote it: run it when only what you trust has
written to the store. Rows keep their times and places.

{_STORE}

{_EXIT_CODES}"""

_DISCARD = f"""Remove the rows of one outcome that nobody can read, after writing them to a file.

The file must not exist yet; only you may read it. One JSON object per row. Without --yes nothing is
removed or written.

{_STORE}

{_EXIT_CODES}"""

_ERASE = f"""Remove every trace of some sessions: rows, and what the SDK notes about them elsewhere.

Needs no key. Without --yes nothing is removed.

{_STORE}

{_EXIT_CODES}"""

_INSPECT = f"""Show one session's envelopes: key id, age, size. No content; needs no key.

{_STORE}

Exit codes: 0 shown, 1 there is no such session, 2 wrong use, 3 interrupted (Ctrl-C)."""


@dataclass(frozen=True)
class Asked:
    """What every command takes, as it was given."""

    store: str
    sessions_table: str
    messages_table: str
    key_prefix: str
    as_json: bool = False
    keys: str | None = None
    upstream_key: str | None = None
    batch: int = 500
    limit: int | None = None

    def __repr__(self) -> str:
        return "Asked()"  # a store's URL may hold what nobody shall see

    @redact_frames
    def opened_store(self) -> "WholeStore":
        """The store, not entered yet. Ends the command where it cannot be one."""
        from ..errors import StoreConfigError  # noqa: PLC0415 - when it is used
        from ..stores.urls import open_store  # noqa: PLC0415 - likewise

        try:
            return open_store(
                self.store,
                sessions_table=self.sessions_table,
                messages_table=self.messages_table,
                key_prefix=self.key_prefix,
            )
        except StoreConfigError as error:
            problem = str(error)
        raise _wrong_use(problem)

    @redact_frames
    def ring(self) -> "KeyRing":
        """The keys' ring, which has asked for nothing yet. Ends the command where it cannot be one."""
        from keyproviders import KeyRing, ProviderConfigError  # noqa: PLC0415 - loaded when it is used

        if not self.keys:
            raise _wrong_use(
                "say where your keys are, such as env:SESSION_KEYS, or set ENCRYPTED_SESSIONS_KEYS", "--keys"
            )
        try:
            return KeyRing.from_url(self.keys)
        except ProviderConfigError as error:
            problem = str(error)
        raise _wrong_use(problem, "--keys")

    @redact_frames
    def upstream(self) -> str | None:
        """The string of the SDK's class. It comes by a variable: others can read a command line."""
        if self.upstream_key is None:
            return None
        kind, _, name = self.upstream_key.partition(":")
        if kind != "env" or not name.isidentifier():
            raise _wrong_use("give env:NAME, the environment variable that holds the string", "--upstream-key")
        secret = os.environ.get(name)
        if not secret:
            raise _wrong_use(f"the environment variable {name} is not set, or empty", "--upstream-key")
        return secret


_Command = Callable[..., None]
_T = TypeVar("_T")


def add_maintenance(app: "typer.Typer") -> None:
    """Add the commands to the application."""
    _add_looking(app)
    _add_sealing(app)
    _add_removing(app)


def _add_looking(app: "typer.Typer") -> None:
    @_command(app, _INVENTORY, "Show what is in a store, and which keys it needs.", "keys", "upstream_key", "batch")
    def inventory(asked: Asked, *, ttl: Annotated[int | None, _ttl()] = None) -> None:
        from ..maintenance import inventory as run  # noqa: PLC0415 - when it is used

        ring = asked.ring() if asked.keys else None
        options = {"ttl": ttl, "upstream_key": asked.upstream(), "batch": asked.batch}
        _run("inventory", asked, run, ring, options)

    @_command(app, _VERIFY, "Open every row, and say which are not in order.", "keys", "upstream_key", "batch")
    def verify(asked: Asked, *, ttl: Annotated[int | None, _ttl()] = None) -> None:
        from ..maintenance import verify as run  # noqa: PLC0415 - when it is used

        ring = asked.ring()
        options = {"ttl": ttl, "upstream_key": asked.upstream(), "batch": asked.batch}
        _run("verify", asked, run, ring, options)

    @_command(app, _INSPECT, "Show one session's envelopes; needs no key.")
    def inspect(asked: Asked, *, session: Annotated[str, _option("--session", "ID", "The session's id.")]) -> None:
        import typer  # noqa: PLC0415 - as in `app`

        from .. import arguments as checks  # noqa: PLC0415 - when it is used
        from ..maintenance._inspect import inspect_session  # noqa: PLC0415 - likewise
        from . import reports  # noqa: PLC0415 - likewise

        store = asked.opened_store()
        _checked(checks.session_id, session)

        async def look() -> "list[Inspected]":
            async with store:
                return await inspect_session(store, session)

        rows = ended(look())
        shown = reports.inspected_as_json if asked.as_json else reports.inspected_in_words
        typer.echo(shown(store.location, session, rows).rstrip())
        if not rows:
            raise typer.Exit(FAILED)


def _add_sealing(app: "typer.Typer") -> None:
    @_command(app, _REENCRYPT, "Seal again what older keys sealed.", "keys", "upstream_key", "batch", "limit")
    def reencrypt(
        asked: Asked,
        *,
        from_kid: Annotated[
            str | None, _option("--from", "KID", "Only what this key sealed.  [default: all but the active one]")
        ] = None,
    ) -> None:
        from ..maintenance import arguments  # noqa: PLC0415 - when it is used
        from ..maintenance import reencrypt as run  # noqa: PLC0415 - likewise

        ring = asked.ring()
        options = {"from_kid": _checked(arguments.kid, from_kid, "--from"), **_writing(asked)}
        _run("reencrypt", asked, run, ring, options)

    @_command(app, _ENCRYPT, "Seal what is plaintext, or of the SDK's class.", "keys", "upstream_key", "batch", "limit")
    def encrypt(asked: Asked) -> None:
        from ..maintenance import encrypt_plaintext as run  # noqa: PLC0415 - when it is used

        ring, options = asked.ring(), _writing(asked)
        _run("encrypt", asked, run, ring, options)


def _add_removing(app: "typer.Typer") -> None:
    outcomes = "erased, expired_unverified (with --ttl), malformed, plaintext, unauthentic, unknown_key, unsupported"

    @_command(app, _PURGE, "Remove what expired.", "keys", "upstream_key", "batch", "limit")
    def purge(asked: Asked, *, ttl: Annotated[int, _ttl()], yes: Annotated[bool, _yes()] = False) -> None:
        from ..maintenance import purge as run  # noqa: PLC0415 - when it is used

        ring = asked.ring()
        options = {"ttl": ttl, "dry_run": not yes, **_writing(asked)}
        _run("purge", asked, run, ring, options)

    @_command(app, _DISCARD, "Remove what nobody can read.", "keys", "upstream_key", "batch", "limit")
    def discard(
        asked: Asked,
        *,
        outcome: Annotated[str, _option("--outcome", "NAME", f"Which rows: {outcomes}.")],
        export: Annotated[
            str | None, _option("--export", "FILE", "A new file, to which rows are written first. Needed with --yes.")
        ] = None,
        ttl: Annotated[int | None, _ttl()] = None,
        yes: Annotated[bool, _yes()] = False,
    ) -> None:
        from ..maintenance import arguments  # noqa: PLC0415 - when it is used
        from ..maintenance import discard as run  # noqa: PLC0415 - likewise

        if yes and export is None:
            raise _wrong_use("name a file that does not exist yet: the rows are written to it first", "--export")
        _checked(arguments.discardable, outcome, ttl)
        ring = asked.ring()
        options = {"outcome": outcome, "export": export, "ttl": ttl, "dry_run": not yes, **_writing(asked)}
        _run("discard", asked, run, ring, options)

    @_command(app, _ERASE, "Remove every trace of some sessions; needs no key.")
    def erase(
        asked: Asked,
        *,
        session: Annotated[list[str], _option("--session", "ID", "A session's id. May be given several times.")],
        yes: Annotated[bool, _yes()] = False,
    ) -> None:
        from ..maintenance import arguments  # noqa: PLC0415 - when it is used
        from ..maintenance import erase as run  # noqa: PLC0415 - likewise

        _checked(arguments.sessions, session)

        async def erase_all(store: "WholeStore", *_: object, stop: Callable[[], bool], **__: object) -> "Report":
            return await run(store, session, dry_run=not yes, stop=stop)  # session by session: nothing to show

        _run("erase", asked, erase_all, None, {})


@redact_frames
def examined(asked: Asked) -> tuple[str | dict[str, object], bool]:
    """What the doctor says of a store, as text or for JSON, and whether all is well."""
    from ..doctor import store as of_store  # noqa: PLC0415 - when it is used

    store, ring, upstream_key = asked.opened_store(), asked.ring(), asked.upstream()

    async def look() -> of_store.StoreDiagnosis:
        async with ring, store:
            return await of_store.examine_store(store, ring, upstream_key=upstream_key)

    found = ended(look())
    return (of_store.as_object(found) if asked.as_json else of_store.in_words(found)), found.ok


def _writing(asked: Asked) -> dict[str, Any]:
    return {"upstream_key": asked.upstream(), "batch": asked.batch, "limit": asked.limit}


# -- How a command runs ---------------------------------------------------------------------------


@redact_frames
def _run(
    command: str,
    asked: Asked,
    operation: "Callable[..., Coroutine[Any, Any, Report]]",
    ring: "KeyRing | None",
    options: Mapping[str, Any],
) -> None:
    """Run an operation, print its report, and end with its exit code."""
    import typer  # noqa: PLC0415 - as in `app`

    from . import progress, reports  # noqa: PLC0415 - `--help` needs nothing of it

    store = asked.opened_store()
    stop = progress.Stop()

    async def go() -> "Report":
        async with AsyncExitStack() as stack:
            if ring is not None:
                await stack.enter_async_context(ring)
            await stack.enter_async_context(store)
            with progress.shown(command, as_json=asked.as_json) as show:
                return await operation(store, ring, **options, progress=show, stop=stop.was_asked)

    report = ended(go(), stop)
    exit_code = INTERRUPTED if report.stopped == "interrupted" else 0 if report.ok else FAILED
    if asked.as_json:
        typer.echo(reports.as_json(command, report, exit_code))
    else:
        typer.echo(reports.in_words(command, report).rstrip())
    if exit_code:
        raise typer.Exit(exit_code)


@redact_frames
def ended(work: Coroutine[Any, Any, _T], stop: "Stop | None" = None) -> _T:
    """What `work` gives. What can be expected to go wrong ends the command with one sentence.

    `stop` is what the work looks at; without one it is cancelled by the first signal.
    """
    import typer  # noqa: PLC0415 - as in `app`

    from keyproviders import KeyProviderError  # noqa: PLC0415 - likewise

    from ..errors import StoreError  # noqa: PLC0415 - when it is used
    from .progress import Stop  # noqa: PLC0415 - when it is used

    for name in ("keyproviders", "encrypted_sessions"):  # what goes wrong is told once, in the report
        logging.getLogger(name).addHandler(logging.NullHandler())
    wrong_use = False
    try:
        return asyncio.run((stop or Stop(patient=False)).heeding(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except KeyProviderError as error:
        problem = f"no key came: {error}"
    except (StoreError, OSError) as error:
        problem, wrong_use = str(error), isinstance(error, FileExistsError)
    problem = printable(" ".join(problem.split()))  # a server and a store's tables have a say in it
    if wrong_use:
        raise _wrong_use(problem)
    typer.echo(f"Error: {problem}", err=True)
    raise typer.Exit(FAILED)


def _checked(check: Callable[..., _T], *values: object) -> _T:
    """What `check` gives of what was given; wrong use ends the command."""
    try:
        return check(*values)
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise _wrong_use(problem)


def _wrong_use(problem: str, option: str | None = None) -> Exception:
    """To be raised outside of any `except`: an error's context holds frames, and these what was given."""
    import typer  # noqa: PLC0415 - as in `app`

    return typer.BadParameter(problem, param_hint=option)


# -- What a command takes -------------------------------------------------------------------------


def _command(app: "typer.Typer", about: str, short_help: str, *shared: str) -> Callable[[_Command], _Command]:
    """Register a command: its own options, then the store's, then the `shared` ones, which come as `Asked`."""

    def register(run: _Command) -> _Command:
        own = list(inspect.signature(run).parameters.values())[1:]
        given = _shared_parameters()
        asked = ["store", *shared, "sessions_table", "messages_table", "key_prefix", "as_json"]
        taken = [given["store"], *own, *(given[name] for name in asked[1:])]

        def command(**values: Any) -> None:
            run(Asked(**{name: values.pop(name) for name in asked}), **values)

        # What typer reads.
        command.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]  # a function may have one
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
        app.command(run.__name__, help=about, short_help=short_help)(command)
        return run

    return register


def _shared_parameters() -> Mapping[str, inspect.Parameter]:
    import typer  # noqa: PLC0415 - as in `app`

    keys_help = "Where your keys are, such as env:SESSION_KEYS."
    upstream_help = "env:NAME, the variable that holds the string with which the SDK's class wrote rows."
    store = typer.Argument(metavar="STORE", show_default=False, help="The store's URL, or env:NAME.")
    keys = typer.Option("--keys", metavar="URL", envvar="ENCRYPTED_SESSIONS_KEYS", show_default=False, help=keys_help)
    batch = typer.Option("--batch", metavar="ROWS", min=1, max=10_000, help="Rows read and changed at once.")
    limit = typer.Option(
        "--limit", metavar="ROWS", min=1, show_default=False, help="Rows changed at most.  [default: all]"
    )
    sessions = typer.Option("--sessions-table", metavar="NAME", help="The table of sessions.")
    messages = typer.Option("--messages-table", metavar="NAME", help="The table of messages.")
    prefix = typer.Option("--key-prefix", metavar="TEXT", help="In Redis: how the keys begin.")
    as_json = typer.Option("--json", help="Print lines of JSON: progress, and the report as the last one.")
    found = {
        "store": (Annotated[str, store], inspect.Parameter.empty),
        "keys": (Annotated[str | None, keys], None),
        "upstream_key": (Annotated[str | None, _option("--upstream-key", "env:NAME", upstream_help)], None),
        "batch": (Annotated[int, batch], 500),
        "limit": (Annotated[int | None, limit], None),
        "sessions_table": (Annotated[str, sessions], "agent_sessions"),
        "messages_table": (Annotated[str, messages], "agent_messages"),
        "key_prefix": (Annotated[str, prefix], "agents:session"),
        "as_json": (Annotated[bool, as_json], False),
    }
    return {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in found.items()
    }


def _option(name: str, metavar: str, about: str) -> Any:
    import typer  # noqa: PLC0415 - as in `app`

    return typer.Option(name, metavar=metavar, show_default=False, help=about)


def _ttl() -> Any:
    import typer  # noqa: PLC0415 - as in `app`

    about = "How long an item lives: the ttl of your sessions."
    return typer.Option("--ttl", metavar="SECONDS", min=1, show_default=False, help=about)


def _yes() -> Any:
    import typer  # noqa: PLC0415 - as in `app`

    return typer.Option("--yes", help="Do it. Else it is only counted what would be removed.")
