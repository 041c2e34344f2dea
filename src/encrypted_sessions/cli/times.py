"""Times of reports: for people without a zone, where a head says UTC; for programs as RFC 3339 has them."""

from __future__ import annotations

from datetime import datetime, timezone

__all__ = ["rfc_3339", "shown_time"]


def rfc_3339(seconds: float | None) -> str | None:
    """To the second, for many programs read no fractions; None also for a time that no calendar has."""
    moment = _moment(seconds)
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def shown_time(seconds: float | None) -> str:
    """To the second, without the zone."""
    moment = _moment(seconds)
    if moment is None:
        return "-" if seconds is None else "out of range"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _moment(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):  # a row can claim any time
        return None
