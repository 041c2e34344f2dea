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
from .exit_codes import FAILED, INTERRUPTED
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
) -> None:
    """Run an operation over the store, print its report, and end with its exit code."""
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
    exit_code = INTERRUPTED if report.stopped == "interrupted" else 0 if report.ok else FAILED
    if options.as_json:
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
    is_wrong_use = False
    try:
        return asyncio.run((stop or GracefulStop(patient=False)).watch(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise interrupted() from None
    except KeyProviderError as error:
        problem = f"no key came: {error}"
    except (AuditFailedError, StoreError, OSError, RefusedUseError) as error:
        problem, is_wrong_use = str(error), isinstance(error, (FileExistsError, RefusedUseError))
    problem = printable(" ".join(problem.split()))  # a server and a store's tables have a say in it
    raise wrong_use(problem) if is_wrong_use else failed(problem)
