"""Metrics and spans of sessions, rings and maintenance, through the API of OpenTelemetry.

Call `instrument()` once per process, or use `opentelemetry-instrument`, which finds `EncryptedSessionsInstrumentor`
by itself. It needs the extra `otel`, which contains only the API; the application's own SDK decides where the figures
go.
"""

from __future__ import annotations

try:
    from .instrumentor import EncryptedSessionsInstrumentor, instrument
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ModuleNotFoundError(
        "encrypted_sessions.telemetry needs opentelemetry-api, which is not installed;"
        " pip install 'encrypted-sessions[otel]'",
        name=error.name,
    ) from None

__all__ = ["EncryptedSessionsInstrumentor", "instrument"]
