"""`encrypted-sessions audit ...`: what an auditor does with the files of an audit log."""

from typing import TYPE_CHECKING, Annotated

import typer

from keyproviders import KeyProviderError

from ..._support.terminal import printable
from ..errors import failed, silence_loggers, wrong_use
from ..exit_codes import FAILED

if TYPE_CHECKING:
    from ...audit.verification import LogVerdict, Until

__all__ = ["app"]

_HELP = "Verify the audit log that `encrypted-sessions --audit-log FOLDER COMMAND` and AuditLog write."

_VERIFY_HELP = """Check that no line of an audit log was altered, is missing or is out of order.

Give all files of a log. The files of one process belong together; those of other processes are
checked separately. A cut-off end shows only with --until, a number and a hash that were kept
elsewhere: the application's log has them once an hour, and at the end.

Exit codes: 0 whole, 1 a line was altered, is missing or out of order, 2 wrong use."""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _top() -> None:
    pass


@app.command(help=_VERIFY_HELP, short_help="Check that an audit log is whole.")
def verify(
    file: Annotated[list[str], typer.Argument(metavar="FILE...", show_default=False, help="The files of the log.")],
    *,
    chain_keys: Annotated[
        str | None,
        typer.Option("--chain-keys", metavar="URL", show_default=False, help="The keys of a keyed log."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="NUMBER:HASH", show_default=False, help="A line that must be there."),
    ] = None,
) -> None:
    """Check that an audit log is whole."""
    from ...audit.verification import parse_until  # noqa: PLC0415 - loaded when it runs: `--help` needs no files

    kept = None
    if until is not None:
        try:
            kept = parse_until(until)
        except ValueError as error:
            raise wrong_use(str(error), "--until") from None
    verdicts = _verified(file, chain_keys, kept)
    for verdict in verdicts:
        typer.echo(printable(_words(verdict)))
    is_cut = kept is not None and not any(verdict.has_until for verdict in verdicts)
    if kept is not None and is_cut:
        typer.echo(f"Line {kept.number:,} with the hash {kept.hash} is missing, or was altered.")
    if is_cut or any(verdict.problem is not None for verdict in verdicts):
        raise typer.Exit(FAILED)


def _verified(files: list[str], chain_keys: str | None, until: "Until | None") -> "list[LogVerdict]":
    from keyproviders import KeyRing, ProviderConfigError  # noqa: PLC0415 - likewise no ring

    from ...audit.verification import verify_files  # noqa: PLC0415 - likewise

    silence_loggers("keyproviders")
    ring = None
    if chain_keys is not None:
        try:
            ring = KeyRing.from_url(chain_keys)
        except ProviderConfigError as error:
            raise wrong_use(str(error), "--chain-keys") from None
    try:
        return verify_files(files, ring, until)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyProviderError as error:
        problem = str(error)
    finally:
        if ring is not None:
            ring.close()
    raise failed(printable(problem))


def _words(verdict: "LogVerdict") -> str:
    if verdict.problem is not None:
        before = f" The {verdict.lines:,} lines before it are in order." if verdict.lines else ""
        return f"{verdict.problem}.{before}"
    number = len(verdict.files)
    files = verdict.files[0] + (f" and {number - 1} more" if number > 1 else "")
    closed = "closed" if verdict.closed else "not closed"
    lost = f"; {verdict.lost:,} lines could not be written, as the log itself says" if verdict.lost else ""
    return f"{files}: {verdict.lines:,} lines, whole, {closed}{lost}. The last one is {verdict.lines}:{verdict.hash}"
