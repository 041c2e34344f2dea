"""The commands `encrypted-sessions keys ...`: what an operator does with a keyset."""

# No `from __future__ import annotations`, as in `app`.
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from .._support.terminal import table
from .exit_codes import FAILED, INTERRUPTED, WRONG_USE

if TYPE_CHECKING:
    from typing import Protocol

    import typer

    class _Closes(Protocol):
        def close(self) -> object: ...


_Manager = TypeVar("_Manager", bound="_Closes")

_MOST_DELAY_S = 366 * 86_400

_EXIT_CODES = "Exit codes: 0 done, 1 failed or refused, 2 wrong use, 3 interrupted (Ctrl-C)."

_KEYS = f"""Make and change a keyset: the keys that a fleet shares, wrapped by a KMS.

URL says what wraps the keys and where they lie, and is the one that the services get:

\b
  aws-kms:alias/agents?keyset=file:/etc/agents/keyset.json
  aws-kms:alias/agents?keyset=sql&dsn_env=DATABASE_URL&keyset_name=tenant-7
  vault-transit:agents?keyset=file:/etc/agents/keyset.json

A key is pending, then active, then decrypt-only; then it can be retired, restored, and destroyed.
Each command changes the whole keyset at once or not at all, and may be repeated.

{_EXIT_CODES}"""

_CREATE = f"""Make a keyset with one key, which is active at once. Refused where there is one already.

{_EXIT_CODES}"""

_LIST = f"""Show the keys of a keyset, the oldest first. Nothing is unwrapped, and nothing changed.

With --json: an object with "keyset", "activation_delay_s" and "keys", a list of objects with "name",
"state", "created_at", "activate_at", "written_until", "retired_at", "destroyed_at" and "kek".

{_EXIT_CODES}"""

_ROTATE = f"""Add a key, which becomes active after the keyset's activation delay.

By then every process that writes has read the keyset again. Refused while another key is pending.
With --now, for an emergency, it is active at once, also past a key that is pending: that one never
becomes active then.

{_EXIT_CODES}"""

_REWRAP = f"""Wrap all keys anew, under the key-encryption key of URL as it is now.

After that key was rotated, or to move to another one: URL names the new one. No item is touched.
Before moving, let the services know both: also_kek= in their URL.

{_EXIT_CODES}"""

_RETIRE = f"""Hand out a key no longer, until it is restored.

Only a decrypt-only key, and only when no process can be writing with it any more: an activation
delay after the next key became active. What was sealed with it cannot be read meanwhile.

{_EXIT_CODES}"""

_RESTORE = f"""Hand out a retired key again.

{_EXIT_CODES}"""

_DESTROY = f"""Remove a retired key for good. It asks first.

What was sealed with it can never be read again. A record of the key stays in the keyset. Copies of
the keyset in backups still have the key, until these expire or the version of the key-encryption
key that wraps it is destroyed.

{_EXIT_CODES}"""

_BACKUPS = (
    "Copies of the keyset in backups still have it: they end only when these expire or the version of the"
    " key-encryption key that wraps it is destroyed."
)

_HEADS = ("NAME", "STATE", "CREATED (UTC)", "ACTIVE FROM (UTC)", "REMARK", "KEY-ENCRYPTION KEY")


def add_keys(app: "typer.Typer") -> None:
    """Add the commands to the application."""
    import typer  # noqa: PLC0415 - as in `app`

    keys = typer.Typer(help=_KEYS, no_args_is_help=True, rich_markup_mode=None)
    _add_growing(keys)
    _add_changing(keys)
    _add_destroy(keys)
    app.add_typer(keys, name="keys", short_help="Make and change a keyset that a fleet shares.")


def _add_growing(keys: "typer.Typer") -> None:
    import typer  # noqa: PLC0415 - as in `app`

    @keys.command(help=_CREATE, short_help="Make a keyset with one key.")
    def create(
        url: Annotated[str, _url()],
        *,
        activation_delay: Annotated[
            int,
            typer.Option(
                metavar="SECONDS",
                min=1,
                max=_MOST_DELAY_S,
                help="How long a new key waits: fresh_s + stale_write_s + 60 of your rings.",
            ),
        ] = 1260,
        key_name: Annotated[str | None, _new_name()] = None,
        as_json: Annotated[bool, _json()] = False,
    ) -> None:
        from keyproviders import open_keyset  # noqa: PLC0415 - `--help` needs no keys

        with _opened(open_keyset, url) as manager:
            key = manager.create(key_name=key_name, activation_delay_s=activation_delay)
            _tell(key._asdict(), f"Created {manager.place}; its key {key.name} is active.", as_json=as_json)

    @keys.command("list", help=_LIST, short_help="Show the keys of a keyset.")
    def list_keys(url: Annotated[str, _url()], *, as_json: Annotated[bool, _json()] = False) -> None:
        from keyproviders import open_keyset  # noqa: PLC0415 - `--help` needs no keys

        with _opened(open_keyset, url) as manager:
            found = manager.list()
            shown = [key._asdict() for key in found.keys]
            if as_json:
                typer.echo(
                    _as_json({"keyset": found.name, "activation_delay_s": found.activation_delay_s, "keys": shown})
                )
                return
            typer.echo(manager.place)
            typer.echo(f"A new key becomes active {_duration(found.activation_delay_s)} after it was added.\n")
            typer.echo(_table(shown, datetime.now(timezone.utc)))

    @keys.command(help=_ROTATE, short_help="Add a key.")
    def rotate(
        url: Annotated[str, _url()],
        *,
        now: Annotated[bool, typer.Option("--now", help="Active at once, for an emergency.")] = False,
        key_name: Annotated[str | None, _new_name()] = None,
        as_json: Annotated[bool, _json()] = False,
    ) -> None:
        from keyproviders import open_keyset  # noqa: PLC0415 - `--help` needs no keys

        with _opened(open_keyset, url) as manager:
            key = manager.rotate(key_name=key_name, now=now)
            when = (
                "It is active; each process writes with it from its next refresh on."
                if key.state == "active"
                else f"It becomes active at {key.activate_at:%Y-%m-%d %H:%M:%S} UTC, and each process then writes with"
                " it from its next refresh on."
            )
            _tell(key._asdict(), f"Added the key {key.name}. {when}", as_json=as_json)


def _add_changing(keys: "typer.Typer") -> None:
    import typer  # noqa: PLC0415 - as in `app`

    @keys.command(help=_REWRAP, short_help="Wrap all keys anew.")
    def rewrap(url: Annotated[str, _url()], *, as_json: Annotated[bool, _json()] = False) -> None:
        from keyproviders import open_keyset  # noqa: PLC0415 - `--help` needs no keys

        with _opened(open_keyset, url) as manager:
            done = manager.rewrap()
            if as_json:
                typer.echo(_as_json({"keys": [key._asdict() for key in done]}))
                return
            keks = ", ".join(sorted({key.kek for key in done}))
            typer.echo(f"Wrapped {len(done)} {'key' if len(done) == 1 else 'keys'} anew under {keks}.")

    @keys.command(help=_RETIRE, short_help="Hand out a key no longer.")
    def retire(
        url: Annotated[str, _url()],
        name: Annotated[str, _name()],
        *,
        as_json: Annotated[bool, _json()] = False,
    ) -> None:
        from keyproviders import open_keyset  # noqa: PLC0415 - `--help` needs no keys

        with _opened(open_keyset, url) as manager:
            key = manager.retire(name)
            words = f"The key {key.name} is {key.state}. What was sealed with it cannot be read" + (
                ", until `encrypted-sessions keys restore` brings it back." if key.state == "retired" else " any more."
            )
            _tell(key._asdict(), words, as_json=as_json)

    @keys.command(help=_RESTORE, short_help="Hand out a retired key again.")
    def restore(
        url: Annotated[str, _url()],
        name: Annotated[str, _name()],
        *,
        as_json: Annotated[bool, _json()] = False,
    ) -> None:
        from keyproviders import open_keyset  # noqa: PLC0415 - `--help` needs no keys

        with _opened(open_keyset, url) as manager:
            key = manager.restore(name)
            _tell(key._asdict(), f"The key {key.name} is {key.state}.", as_json=as_json)


def _add_destroy(keys: "typer.Typer") -> None:
    import typer  # noqa: PLC0415 - as in `app`

    @keys.command(help=_DESTROY, short_help="Remove a retired key for good.")
    def destroy(
        url: Annotated[str, _url()],
        name: Annotated[str, _name()],
        *,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask, for scripts.")] = False,
        as_json: Annotated[bool, _json()] = False,
    ) -> None:
        from keyproviders import open_keyset  # noqa: PLC0415 - `--help` needs no keys

        with _opened(open_keyset, url) as manager:
            # What is not retired is refused without a question.
            if not yes and any(key.name == name and key.state == "retired" for key in manager.list().keys):
                typer.echo(f"What was sealed with the key {name} can never be read again.", err=True)
                if not _confirmed(f"Destroy it in {manager.place}?"):
                    typer.echo("Error: nothing was destroyed; answer with y, or give --yes in a script", err=True)
                    raise typer.Exit(FAILED)
            key = manager.destroy(name)
            _tell(key._asdict(), f"The key {key.name} was destroyed at {_time(key.destroyed_at)} UTC.", as_json=as_json)
            typer.echo(_BACKUPS, err=as_json)


def _url() -> Any:
    import typer  # noqa: PLC0415 - as in `app`

    return typer.Argument(metavar="URL", show_default=False, help="What wraps the keys, and where they lie.")


def _name() -> Any:
    import typer  # noqa: PLC0415 - as in `app`

    return typer.Argument(metavar="NAME", show_default=False, help="The key's name.")


def _new_name() -> Any:
    import typer  # noqa: PLC0415 - as in `app`

    return typer.Option("--key-name", metavar="NAME", show_default=False, help="The key's name; else one is made up.")


def _json() -> Any:
    import typer  # noqa: PLC0415 - as in `app`

    return typer.Option("--json", help="Print JSON, for programs.")


def _confirmed(question: str) -> bool:
    """Ask on stderr, for stdout is for what was done. Nobody there is a no."""
    import typer  # noqa: PLC0415 - as in `app`

    typer.echo(f"{question} [y/N]: ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        typer.echo("", err=True)
    return answer.strip().lower() in {"y", "yes"}


@contextmanager
def _opened(opener: Callable[[str], _Manager], url: str) -> Iterator[_Manager]:
    with _told(WRONG_USE):
        manager = opener(url)
    with _told(), closing(manager):
        yield manager


@contextmanager
def _told(exit_code: int = FAILED) -> Iterator[None]:
    """Tell what goes wrong in one line, and end with that code."""
    import logging  # noqa: PLC0415 - only commands that do something need these

    import typer  # noqa: PLC0415

    from keyproviders import KeyProviderError  # noqa: PLC0415

    # What goes wrong is told once, as the error.
    logging.getLogger("keyproviders").addHandler(logging.NullHandler())
    try:
        yield
    except KeyProviderError as error:
        typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. The keyset is as it was, or the change is made: `keys list` shows it.", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _tell(key: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    import typer  # noqa: PLC0415 - as in `app`

    typer.echo(_as_json({"key": key}) if as_json else words)


def _as_json(found: Mapping[str, object]) -> str:
    return json.dumps(found, indent=2, default=lambda time: f"{time:%Y-%m-%dT%H:%M:%SZ}")


def _table(keys: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = (
        (key["name"], key["state"], _time(key["created_at"]), _time(key["activate_at"]), _remark(key, now), key["kek"])
        for key in keys
    )
    return "\n".join(table(_HEADS, rows))


def _remark(key: Mapping[str, Any], now: datetime) -> str:
    state, until = key["state"], key["written_until"]
    if state == "pending":
        return f"active in {_duration(max(0.0, (key['activate_at'] - now).total_seconds()))}"
    if state == "decrypt-only":
        # Overtaken in an emergency before its time came, it never becomes active.
        overtaken = "overtaken; " if key["activate_at"] > now else ""
        return overtaken + (
            f"may be retired from {_time(until)} on" if until is not None and now < until else "may be retired"
        )
    since = key[f"{state}_at"] if state in {"retired", "destroyed"} else None
    return "" if since is None else f"since {_time(since)}"


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
