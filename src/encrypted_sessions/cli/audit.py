"""The audit log of a command: begun before it, closed after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .errors import checked, wrong_use

if TYPE_CHECKING:
    from ..audit import AuditLog

__all__ = ["begin_audit"]


def begin_audit(context: typer.Context, folder: str | None, *, refuse: bool) -> None:
    """Have what the command does written to an audit log in this folder, if one was given."""
    if not folder:
        if refuse:
            raise wrong_use("goes with --audit-log, or ENCRYPTED_SESSIONS_AUDIT_LOG", "--audit-refuse")
        return
    from ..audit import AuditLog  # noqa: PLC0415 - loads keys and events, which few commands need
    from ..events.observing import observe  # noqa: PLC0415 - likewise

    def opened(where: str) -> AuditLog:
        return AuditLog(where, on_failure="refuse" if refuse else "continue")

    log: AuditLog = checked(opened, folder)
    stop = observe(log)

    def end() -> None:
        stop()
        log.close()
        if log.lines_lost:
            what = "line is" if log.lines_lost == 1 else "lines are"
            typer.echo(f"Note: the audit log could not be written: {log.lines_lost} {what} missing from it.", err=True)

    context.call_on_close(end)
