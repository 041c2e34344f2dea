"""`encrypted-sessions keys ...`: what an operator does with a keyset."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from keyproviders import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
    parse_kid,
)

from ..._support.durations import DELAYS, format_duration, parse_duration
from ..._support.terminal import escaped
from ...errors import AuditFailedError
from .. import keyset_report
from ..common_options import CommonOptions
from ..durations import whole_seconds
from ..errors import checked, failed, interrupted, say, silence_loggers, wrong_use
from ..exit_codes import FAILED
from ..failures import exit_code_of, kind_of
from ..interruption import signals_raise
from ..key_needs import needs_of_store
from ..keyset_telling import KeysetCommand
from ..options import KeyPrefix, MessagesTable, Realms, SessionsTable

if TYPE_CHECKING:
    from typing import Protocol

    class _Changes(Protocol):
        not_noted: str | None
        place: str

        def close(self) -> object: ...


__all__ = ["app"]

_Manager = TypeVar("_Manager", bound="_Changes")

_MOST_DELAY_S = 366 * 86_400

_OF_ITS_PLACE = (KeyUnavailableError, KeyAccessDeniedError, KeyNotFoundError, InvalidKeyError, ProviderConfigError)

_EXIT_CODES = """Exit codes: 0 done, 1 failed or refused, 2 wrong use, 3 interrupted (Ctrl-C), 4 a place or a store
did not answer, refused, or holds no keyset that can be used."""

_HELP = f"""Make and change a keyset: the keys that a fleet shares, wrapped by a KMS.

URL says what wraps the keys and where they lie, and is the one that the services get:

\b
  aws-kms:alias/agents?keyset=file:/etc/agents/keyset.json
  aws-kms:alias/agents?keyset=sql&dsn_env=DATABASE_URL&keyset_name=tenant-7
  vault-transit:agents?keyset=file:/etc/agents/keyset.json

A key is pending, then active, then decrypt-only; then it can be retired, restored, and destroyed.
Each command changes the whole keyset at once or not at all, and may be repeated.

{_EXIT_CODES}"""

_CREATE_HELP = f"""Make a keyset with one key, which is active at once. Refused where there is one already.

It gets an id, which goes into the URL of the services: keyset_id=... keeps them from any other
keyset. Release 0.1.0 does not read it.

{_EXIT_CODES}"""

_LIST_HELP = f"""Show the keys of a keyset, the oldest first. Nothing is unwrapped, and nothing changed.

With --json: an object with "keyset", "keyset_id", "format", "revision", "activation_delay_s",
"destroy_after_s" and "keys", a list of objects with "name", "state", "created_at", "activate_at",
"written_until", "retired_at", "destroyed_at" and "kek". With --history also "changes", a list of
objects with "at", "user", "host", "what", "key" and "reason", as whoever made them said.

{_EXIT_CODES}"""

_ROTATE_HELP = f"""Add a key, which becomes active after the keyset's activation delay.

By then every process that writes has read the keyset again. Refused while another key is pending.
With --now, for an emergency, it is active at once, also past a key that is pending: that one never
becomes active then.

{_EXIT_CODES}"""

_REWRAP_HELP = f"""Wrap all keys anew, under the key-encryption key of URL as it is now.

After that key was rotated, or to move to another one: URL names the new one. No item is touched.
Before moving, let the services know both: also_kek= in their URL.

{_EXIT_CODES}"""

_UPGRADE_HELP = f"""Move a keyset of format 1 to format 2, with an id that is bound to each key.

First every process that uses it needs release 0.2.0 or later: 0.1.0 refuses format 2. Then add the
id to their URL: keyset_id=... keeps them from any other keyset. Keep a copy of the keyset from
before. One of format 2 is left as it is.

{_EXIT_CODES}"""

_RETIRE_HELP = f"""Hand out a key no longer, until it is restored.

Only a decrypt-only key, and only when no process can be writing with it any more: an activation
delay after the next key became active. What was sealed with it cannot be read meanwhile.

{_EXIT_CODES}"""

_RESTORE_HELP = f"""Hand out a retired key again.

{_EXIT_CODES}"""

_DESTROY_HELP = f"""Remove a retired key for good. It asks first.

Refused until it has been retired for the keyset's time, seven days unless `keys create` was told
otherwise; a keyset of format 1 has none. --now NAME, the name once more, does not wait. With --store,
which may be given several times, the rows of each store are opened first, in the realms of --realm,
and it is refused while one of them needs the key.

What was sealed with it can never be read again. A record of the key stays in the keyset. Copies of
the keyset in backups still have the key, until these expire or the version of the key-encryption
key that wraps it is destroyed. Before that, ask for each standby and each backup of the stores by
name: what lies there may need the key although the store does not.

{_EXIT_CODES}"""

_BACKUPS = (
    "Copies of the keyset in backups still have it: they end only when these expire or the version of the"
    " key-encryption key that wraps it is destroyed."
)

_KeysetURL = Annotated[
    str, typer.Argument(metavar="URL", show_default=False, help="What wraps the keys, and where they lie.")
]


def _name_alone(given: str) -> str:
    """The name of a key. Somebody may have copied a key id from `inventory`: it is said which part the name is."""
    name, _ = parse_kid(given) or (None, None)
    if name is not None:
        raise wrong_use(f"{given} is a key id; give the key's name, which is the part before the ~: {name}", "NAME")
    return given


_KeyName = Annotated[
    str, typer.Argument(metavar="NAME", show_default=False, callback=_name_alone, help="The key's name.")
]
_NewName = Annotated[
    str | None,
    typer.Option("--key-name", metavar="NAME", show_default=False, help="The key's name; else one is made up."),
]
_DestroyAfter = Annotated[
    str | None,
    typer.Option(
        "--destroy-after",
        metavar="TIME",
        show_default=False,
        help="How long a retired key waits until it may be destroyed, such as 12h or 0.  [default: 7d]",
    ),
]
_Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", show_default=False, help="Why, for the record: one line."),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)


@app.command(help=_CREATE_HELP, short_help="Make a keyset with one key.")
def create(
    url: _KeysetURL,
    *,
    activation_delay: Annotated[
        int,
        typer.Option(
            metavar="TIME",
            parser=whole_seconds(most=_MOST_DELAY_S),
            help="How long a new key waits: fresh_s + stale_write_s + 60 of your rings.",
        ),
    ] = 1260,
    destroy_after: _DestroyAfter = None,
    key_name: _NewName = None,
    reason: _Reason = None,
    as_json: _AsJson = False,
) -> None:
    """Make a keyset."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    destroy_after_s = _seconds(destroy_after, "--destroy-after")
    with KeysetCommand("create", key_name, reason) as told, _opened(open_keyset, url, told) as manager:
        key = manager.create(
            key_name=key_name, activation_delay_s=activation_delay, destroy_after_s=destroy_after_s, reason=reason
        )
        told.key = key.name
        words = f"Created {manager.place}; its key {key.name} is active.\n{_id_sentence(manager.keyset_id)}"
        _print_key(key._asdict(), words, as_json=as_json, keyset_id=manager.keyset_id)


@app.command("list", help=_LIST_HELP, short_help="Show the keys of a keyset.")
def list_keys(
    url: _KeysetURL,
    *,
    history: Annotated[bool, typer.Option("--history", help="Show every change that was noted, too.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Show the keys."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with KeysetCommand("list") as told, _opened(open_keyset, url, told) as manager:
        found = manager.list()
        shown = [key._asdict() for key in found.keys]
        changes = [change._asdict() for change in manager.history()] if history else []
        if as_json:
            more = {"keys": shown, **({"changes": changes} if history else {})}
            typer.echo(keyset_report.format_json(keyset_report.without_keys(found) | more))
            return
        say(manager.place)
        say(
            "It is of format 1, without an id; see `encrypted-sessions keys upgrade`."
            if found.id is None
            else f"Its id is {found.id}; it is at revision {found.revision}."
        )
        delay = format_duration(found.activation_delay_s, DELAYS)
        say(f"A new key becomes active {delay} after it was added.\n")
        typer.echo(keyset_report.format_table(shown, datetime.now(timezone.utc)))
        if history:
            typer.echo(f"\n{keyset_report.format_changes(changes)}")


@app.command(help=_ROTATE_HELP, short_help="Add a key.")
def rotate(
    url: _KeysetURL,
    *,
    now: Annotated[bool, typer.Option("--now", help="Active at once, for an emergency.")] = False,
    key_name: _NewName = None,
    reason: _Reason = None,
    as_json: _AsJson = False,
) -> None:
    """Add a key."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with KeysetCommand("rotate", key_name, reason) as told, _opened(open_keyset, url, told) as manager:
        key = manager.rotate(key_name=key_name, now=now, reason=reason)
        told.key = key.name
        when = (
            "It is active; each process writes with it from its next refresh on."
            if key.state == "active"
            else f"It becomes active at {key.activate_at:%Y-%m-%d %H:%M:%S} UTC, and each process then writes with"
            " it from its next refresh on."
        )
        _print_key(key._asdict(), f"Added the key {key.name}. {when}", as_json=as_json)


@app.command(help=_REWRAP_HELP, short_help="Wrap all keys anew.")
def rewrap(url: _KeysetURL, *, reason: _Reason = None, as_json: _AsJson = False) -> None:
    """Wrap all keys anew."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with KeysetCommand("rewrap", None, reason) as told, _opened(open_keyset, url, told) as manager:
        done = manager.rewrap(reason=reason)
        if as_json:
            typer.echo(keyset_report.format_json({"keys": [key._asdict() for key in done]}))
            return
        keks = ", ".join(sorted({key.kek for key in done}))
        say(f"Wrapped {len(done)} {'key' if len(done) == 1 else 'keys'} anew under {keks}.")


@app.command(help=_UPGRADE_HELP, short_help="Move a keyset to format 2.")
def upgrade(
    url: _KeysetURL, *, destroy_after: _DestroyAfter = None, reason: _Reason = None, as_json: _AsJson = False
) -> None:
    """Move a keyset to format 2."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    destroy_after_s = _seconds(destroy_after, "--destroy-after")
    with KeysetCommand("upgrade", None, reason) as told, _opened(open_keyset, url, told) as manager:
        done = manager.upgrade(destroy_after_s=destroy_after_s, reason=reason)
        if destroy_after is not None and done.destroy_after_s != destroy_after_s:
            raise failed("it was of format 2 already, which stays as it is: --destroy-after changed nothing")
        if as_json:
            typer.echo(keyset_report.format_json(keyset_report.without_keys(done)))
            return
        say(f"{manager.place} is of format {done.format}.\n{_id_sentence(done.id)}")


@app.command(help=_RETIRE_HELP, short_help="Hand out a key no longer.")
def retire(
    url: _KeysetURL,
    name: _KeyName,
    *,
    reason: _Reason = None,
    as_json: _AsJson = False,
) -> None:
    """Hand out a key no longer."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with KeysetCommand("retire", name, reason) as told, _opened(open_keyset, url, told) as manager:
        key = manager.retire(name, reason=reason)
        words = f"The key {key.name} is {key.state}. What was sealed with it cannot be read" + (
            ", until `encrypted-sessions keys restore` brings it back." if key.state == "retired" else " any more."
        )
        _print_key(key._asdict(), words, as_json=as_json)


@app.command(help=_RESTORE_HELP, short_help="Hand out a retired key again.")
def restore(
    url: _KeysetURL,
    name: _KeyName,
    *,
    reason: _Reason = None,
    as_json: _AsJson = False,
) -> None:
    """Hand out a retired key again."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with KeysetCommand("restore", name, reason) as told, _opened(open_keyset, url, told) as manager:
        key = manager.restore(name, reason=reason)
        _print_key(key._asdict(), f"The key {key.name} is {key.state}.", as_json=as_json)


@app.command(help=_DESTROY_HELP, short_help="Remove a retired key for good.")
def destroy(
    url: _KeysetURL,
    name: _KeyName,
    *,
    now: Annotated[
        str | None,
        typer.Option("--now", metavar="NAME", show_default=False, help="The name once more: do not wait any longer."),
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option(
            "--store",
            metavar="STORE",
            show_default=False,
            help="A store's URL, or env:NAME: refuse while rows there need the key. May be given several times.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, for scripts.")] = False,
    reason: _Reason = None,
    realm: Realms = None,
    sessions_table: SessionsTable = "agent_sessions",
    messages_table: MessagesTable = "agent_messages",
    key_prefix: KeyPrefix = "agents:session",
    as_json: _AsJson = False,
) -> None:
    """Remove a retired key for good."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    if now is not None and now != name:
        raise wrong_use("give the name of the key once more, as it is to be destroyed", "--now")
    if realm and not store:
        raise wrong_use("goes with --store", "--realm")
    with KeysetCommand("destroy", name, reason) as told:
        with _opened(open_keyset, url, told) as manager:
            found = manager.list()
            key = next((key for key in found.keys if key.name == name), None)
            is_due = now is not None or _may_be_destroyed(key, found.destroy_after_s)
            if key is None or key.state != "retired" or not is_due:
                key = manager.destroy(name, reason=reason)  # which refuses it, without a question, or was there before
                _print_destroyed(key, as_json=as_json)
                return
            if found.id is None:
                say("The keyset is of format 1: a retired key need not wait until it is destroyed.", err=True)
        for place in store or ():
            options = CommonOptions(
                store=place,
                sessions_table=sessions_table,
                messages_table=messages_table,
                key_prefix=key_prefix,
                as_json=False,
                realms=realm,
            )
            problem = needs_of_store(options, url, name)
            if problem is not None:
                raise failed(f"nothing was destroyed: {problem}")
        with _opened(open_keyset, url, told) as manager:
            if not yes:
                say(f"What was sealed with the key {name} can never be read again.", err=True)
                if not _confirmed(f"Destroy it in {manager.place}?"):
                    raise failed("nothing was destroyed; answer with y, or give --yes in a script")
            _print_destroyed(manager.destroy(name, now=now is not None, reason=reason), as_json=as_json)


def _may_be_destroyed(key: Any, destroy_after_s: int) -> bool:
    """Whether that key of a keyset has been retired for long enough."""
    if key is None or key.retired_at is None:
        return False
    waits_until = key.retired_at + timedelta(seconds=destroy_after_s)
    return bool(not destroy_after_s or datetime.now(timezone.utc) >= waits_until)


def _print_destroyed(key: Any, *, as_json: bool) -> None:
    when = keyset_report.format_time(key.destroyed_at)
    _print_key(key._asdict(), f"The key {key.name} was destroyed at {when} UTC.", as_json=as_json)
    say(_BACKUPS, err=as_json)


def _seconds(text: str | None, option: str) -> int:
    """Whole seconds of what somebody wrote. Ends the command where it is no time, or a longer one than a keyset has."""
    seconds = checked(parse_duration, "7d" if text is None else text, option)
    if seconds != int(seconds) or seconds > _MOST_DELAY_S:
        raise wrong_use(f"give whole seconds, 0 to {_MOST_DELAY_S // 86_400}d", option)
    return int(seconds)


def _confirmed(question: str) -> bool:
    """Ask on stderr, for stdout is for what was done. Nobody there is a no."""
    typer.echo(f"{escaped(question)} [y/N]: ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        typer.echo("", err=True)
    return answer.strip().lower() in {"y", "yes"}


@contextmanager
def _opened(opener: Callable[[str], _Manager], url: str, told: KeysetCommand) -> Iterator[_Manager]:
    with _reporting_errors(told):
        manager = opener(url)
    with _reporting_errors(told), closing(manager):
        told.begin(manager.place)
        yield manager
        if manager.not_noted is not None:
            problem = " ".join(str(manager.not_noted).split())
            say(f"Note: the change was made, and could not be noted beside the keyset: {problem}", err=True)


@contextmanager
def _reporting_errors(told: KeysetCommand) -> Iterator[None]:
    """Say in one line what goes wrong, and end with its code."""
    silence_loggers("keyproviders")
    try:
        with signals_raise():
            yield
    except (AuditFailedError, KeyProviderError) as error:
        told.failed(error)
        # What the state of a keyset does not allow is an error beside those of its place.
        exit_code = exit_code_of(error) if isinstance(error, _OF_ITS_PLACE) else FAILED
        raise failed(" ".join(str(error).split()), exit_code, kind=kind_of(error)) from None
    except KeyboardInterrupt as error:
        told.failed(error)
        sentence = "Interrupted. The keyset is as it was, or the change is made: `keys list` shows it."
        raise interrupted(sentence) from None


def _print_key(key: Mapping[str, Any], sentence: str, *, as_json: bool, **more: str | None) -> None:
    if as_json:
        typer.echo(keyset_report.format_json({"key": key, **more}))
    else:
        say(sentence)


def _id_sentence(keyset_id: str | None) -> str:
    return f"Add its id to the URL of each process that uses it:\n  keyset_id={keyset_id}"
