"""`encrypted-sessions demo`."""

from typing import Annotated

import typer

from ..errors import failed, interrupted, wrong_use
from ..exit_codes import FAILED, UNAVAILABLE
from ..interruption import signals_raise

__all__ = ["HELP", "demo"]

HELP = """Show an encrypted conversation of a real agent, and check what is shown.

The conversation is killed and continued in a new process, its key is rotated, its items expire, and a wrong
key explains itself. It takes a few seconds, without a network or an API key. Nothing is left behind, unless
--store says where to keep it.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 interrupted (Ctrl-C), 4 the store or the place of keys
did not answer, or refused."""

_KEYS_HELP = (
    "Where your keys are, such as env:SESSION_KEYS; of several places only the first is used. Keys are"
    " only read: the rotation and the wrong key are left out.  [default: the demo's own keys]"
)
_STORE_HELP = (
    "Where to store and leave the conversation: the path of an SQLite file, an SQLAlchemy URL with an async driver"
    " (postgresql+asyncpg://host/name) or a Redis URL (redis://host:6379/0).  [default: a temporary SQLite file]"
)


def demo(
    keys: Annotated[
        list[str] | None,
        typer.Option("--keys", metavar="URL", envvar="ENCRYPTED_SESSIONS_KEYS", show_default=False, help=_KEYS_HELP),
    ] = None,
    store: Annotated[str | None, typer.Option("--store", metavar="URL", show_default=False, help=_STORE_HELP)] = None,
) -> None:
    """Show the demo."""
    try:
        from ...demo.conversation import DemoError, WrongUseError, run  # noqa: PLC0415 - loads rich
        from ...demo.errors import UnreachedError  # noqa: PLC0415 - as it

        try:
            with signals_raise():  # the folder of the demo is removed
                run(keys[0] if keys else None, store)
        except WrongUseError as error:
            raise wrong_use(str(error), error.option) from None
        except DemoError as error:
            exit_code = UNAVAILABLE if isinstance(error, UnreachedError) else FAILED
            raise failed(str(error), exit_code) from None
    except KeyboardInterrupt:
        raise interrupted() from None
