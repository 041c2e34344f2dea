"""How a command works over a store: in an event loop, with signals, progress, a report and an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from keyproviders import KeyProviderError, redact_frames

from .._support.terminal import printable
from ..errors import AuditFailedError, StoreError
from ..maintenance.refusals import RefusedUseError
from ..maintenance.telling import told_run
from .common_options import CommonOptions
from .errors import failed, interrupted, silence_loggers, wrong_use
from .exit_codes import WRONG_USE
from .failures import exit_code_of, exit_code_of_report, kind_of
from .memory import return_freed_memory
from .signals import GracefulStop

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..maintenance import Report

__all__ = ["complete", "run_operation"]

_T = TypeVar("_T")


@redact_frames
def run_operation(
    command: str,
    options: CommonOptions,
    operation: Callable[..., Coroutine[Any, Any, Report]],
    rings: Sequence[KeyRing] | None,
    arguments: Mapping[str, Any],
    present: Callable[[Report], str | None] | None = None,
) -> None:
    """Run an operation over the store, print its report, and end with its exit code.

    `present` gets the report first, and may give what is printed in its place.
    """
    from . import progress, reports  # noqa: PLC0415 - they load what maintenance works with, which `--help` needs not

    return_freed_memory()
    store = options.open_store()
    stop = GracefulStop()

    async def run() -> Report:
        return await told_run(command, store, work)

    async def work() -> Report:
        async with AsyncExitStack() as stack:
            for ring in rings or ():
                stack.push_async_callback(ring.aclose)
            if rings:
                await rings[0].active()  # the others are asked for what it lacks
            await stack.enter_async_context(store)
            with progress.shown(command, as_json=options.as_json) as show:
                return await operation(store, rings, **arguments, progress=show, stop=stop.requested)

    report = complete(run(), stop)
    exit_code = exit_code_of_report(report)
    instead = None if present is None else present(report)
    if instead is not None:
        typer.echo(instead, nl=False)
    elif options.as_json:
        typer.echo(reports.format_json(command, report, exit_code))
    else:
        typer.echo(reports.format_text(command, report).rstrip())
    if exit_code:
        raise typer.Exit(exit_code)


@redact_frames
def complete(work: Coroutine[Any, Any, _T], stop: GracefulStop | None = None) -> _T:
    """What `work` gives. What can be expected to go wrong ends the command with one sentence.

    `stop` is what the work looks at; without one it is cancelled by the first signal.
    """
    silence_loggers("keyproviders", "encrypted_sessions")
    try:
        return asyncio.run((stop or GracefulStop(patient=False)).watch(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise interrupted() from None
    except KeyProviderError as error:
        problem = f"no key could be fetched: {error}"
        exit_code, kind, is_of_options = exit_code_of(error), kind_of(error), False
    except (AuditFailedError, StoreError, OSError, RefusedUseError) as error:
        problem, exit_code, kind = str(error), exit_code_of(error), kind_of(error)
        is_of_options = exit_code == WRONG_USE
    problem = printable(" ".join(problem.split()))  # a server and a store's tables have a say in it
    raise wrong_use(problem, kind=kind) if is_of_options else failed(problem, exit_code, kind=kind)
