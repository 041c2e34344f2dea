"""`encrypted-sessions keys ...`: what an operator does with a keyset."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from keyproviders import KeyProviderError

from ..._support.durations import DELAYS, format_duration
from .. import keyset_report
from ..durations import whole_seconds
from ..errors import failed, interrupted, silence_loggers
from ..exit_codes import FAILED, WRONG_USE
from ..interruption import signals_raise

if TYPE_CHECKING:
    from typing import Protocol

    class _Closes(Protocol):
        def close(self) -> object: ...


__all__ = ["app"]

_Manager = TypeVar("_Manager", bound="_Closes")

_MOST_DELAY_S = 366 * 86_400

_EXIT_CODES = "Exit codes: 0 done, 1 failed or refused, 2 wrong use, 3 interrupted (Ctrl-C)."

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
"written_until", "retired_at", "destroyed_at" and "kek".

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
_KeyName = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The key's name.")]
_NewName = Annotated[
    str | None,
    typer.Option("--key-name", metavar="NAME", show_default=False, help="The key's name; else one is made up."),
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
    key_name: _NewName = None,
    as_json: _AsJson = False,
) -> None:
    """Make a keyset."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        key = manager.create(key_name=key_name, activation_delay_s=activation_delay)
        words = f"Created {manager.place}; its key {key.name} is active.\n{_id_sentence(manager.keyset_id)}"
        _print_key(key._asdict(), words, as_json=as_json, keyset_id=manager.keyset_id)


@app.command("list", help=_LIST_HELP, short_help="Show the keys of a keyset.")
def list_keys(url: _KeysetURL, *, as_json: _AsJson = False) -> None:
    """Show the keys."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        found = manager.list()
        shown = [key._asdict() for key in found.keys]
        if as_json:
            typer.echo(keyset_report.format_json(keyset_report.without_keys(found) | {"keys": shown}))
            return
        typer.echo(manager.place)
        typer.echo(
            "It is of format 1, without an id; see `encrypted-sessions keys upgrade`."
            if found.id is None
            else f"Its id is {found.id}; it is at revision {found.revision}."
        )
        delay = format_duration(found.activation_delay_s, DELAYS)
        typer.echo(f"A new key becomes active {delay} after it was added.\n")
        typer.echo(keyset_report.format_table(shown, datetime.now(timezone.utc)))


@app.command(help=_ROTATE_HELP, short_help="Add a key.")
def rotate(
    url: _KeysetURL,
    *,
    now: Annotated[bool, typer.Option("--now", help="Active at once, for an emergency.")] = False,
    key_name: _NewName = None,
    as_json: _AsJson = False,
) -> None:
    """Add a key."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        key = manager.rotate(key_name=key_name, now=now)
        when = (
            "It is active; each process writes with it from its next refresh on."
            if key.state == "active"
            else f"It becomes active at {key.activate_at:%Y-%m-%d %H:%M:%S} UTC, and each process then writes with"
            " it from its next refresh on."
        )
        _print_key(key._asdict(), f"Added the key {key.name}. {when}", as_json=as_json)


@app.command(help=_REWRAP_HELP, short_help="Wrap all keys anew.")
def rewrap(url: _KeysetURL, *, as_json: _AsJson = False) -> None:
    """Wrap all keys anew."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        done = manager.rewrap()
        if as_json:
            typer.echo(keyset_report.format_json({"keys": [key._asdict() for key in done]}))
            return
        keks = ", ".join(sorted({key.kek for key in done}))
        typer.echo(f"Wrapped {len(done)} {'key' if len(done) == 1 else 'keys'} anew under {keks}.")


@app.command(help=_UPGRADE_HELP, short_help="Move a keyset to format 2.")
def upgrade(url: _KeysetURL, *, as_json: _AsJson = False) -> None:
    """Move a keyset to format 2."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        done = manager.upgrade()
        if as_json:
            typer.echo(keyset_report.format_json(keyset_report.without_keys(done)))
            return
        typer.echo(f"{manager.place} is of format {done.format}.\n{_id_sentence(done.id)}")


@app.command(help=_RETIRE_HELP, short_help="Hand out a key no longer.")
def retire(
    url: _KeysetURL,
    name: _KeyName,
    *,
    as_json: _AsJson = False,
) -> None:
    """Hand out a key no longer."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        key = manager.retire(name)
        words = f"The key {key.name} is {key.state}. What was sealed with it cannot be read" + (
            ", until `encrypted-sessions keys restore` brings it back." if key.state == "retired" else " any more."
        )
        _print_key(key._asdict(), words, as_json=as_json)


@app.command(help=_RESTORE_HELP, short_help="Hand out a retired key again.")
def restore(
    url: _KeysetURL,
    name: _KeyName,
    *,
    as_json: _AsJson = False,
) -> None:
    """Hand out a retired key again."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        key = manager.restore(name)
        _print_key(key._asdict(), f"The key {key.name} is {key.state}.", as_json=as_json)


@app.command(help=_DESTROY_HELP, short_help="Remove a retired key for good.")
def destroy(
    url: _KeysetURL,
    name: _KeyName,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, for scripts.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Remove a retired key for good."""
    from keyproviders import open_keyset  # noqa: PLC0415 - loaded when it runs: `--help` needs no keys

    with _opened(open_keyset, url) as manager:
        # What is not retired is refused without a question.
        if not yes and any(key.name == name and key.state == "retired" for key in manager.list().keys):
            typer.echo(f"What was sealed with the key {name} can never be read again.", err=True)
            if not _confirmed(f"Destroy it in {manager.place}?"):
                raise failed("nothing was destroyed; answer with y, or give --yes in a script")
        key = manager.destroy(name)
        when = keyset_report.format_time(key.destroyed_at)
        _print_key(key._asdict(), f"The key {key.name} was destroyed at {when} UTC.", as_json=as_json)
        typer.echo(_BACKUPS, err=as_json)


def _confirmed(question: str) -> bool:
    """Ask on stderr, for stdout is for what was done. Nobody there is a no."""
    typer.echo(f"{question} [y/N]: ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        typer.echo("", err=True)
    return answer.strip().lower() in {"y", "yes"}


@contextmanager
def _opened(opener: Callable[[str], _Manager], url: str) -> Iterator[_Manager]:
    with _reporting_errors(WRONG_USE):
        manager = opener(url)
    with _reporting_errors(), closing(manager):
        yield manager


@contextmanager
def _reporting_errors(exit_code: int = FAILED) -> Iterator[None]:
    """Say in one line what goes wrong, and end with that code."""
    silence_loggers("keyproviders")
    try:
        with signals_raise():
            yield
    except KeyProviderError as error:
        raise failed(" ".join(str(error).split()), exit_code) from None
    except KeyboardInterrupt:
        sentence = "Interrupted. The keyset is as it was, or the change is made: `keys list` shows it."
        raise interrupted(sentence) from None


def _print_key(key: Mapping[str, Any], sentence: str, *, as_json: bool, **more: str | None) -> None:
    typer.echo(keyset_report.format_json({"key": key, **more}) if as_json else sentence)


def _id_sentence(keyset_id: str | None) -> str:
    return f"Add its id to the URL of each process that uses it:\n  keyset_id={keyset_id}"
