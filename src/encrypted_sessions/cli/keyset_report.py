"""The keys of a keyset as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .._support.durations import DELAYS, format_duration
from .._support.terminal import table

__all__ = ["format_changes", "format_json", "format_table", "format_time", "without_keys"]

_HEADS = ("NAME", "STATE", "CREATED (UTC)", "ACTIVE FROM (UTC)", "REMARK", "KEY-ENCRYPTION KEY")


def format_json(found: Mapping[str, object]) -> str:
    """For programs: times in ISO 8601, in UTC."""
    return json.dumps(found, indent=2, default=lambda time: f"{time:%Y-%m-%dT%H:%M:%SZ}")


def without_keys(keyset: Any) -> dict[str, object]:
    """What a `KeysetInfo` says beside its keys."""
    return {
        "keyset": keyset.name,
        "keyset_id": keyset.id,
        "format": keyset.format,
        "revision": keyset.revision,
        "activation_delay_s": keyset.activation_delay_s,
        "destroy_after_s": keyset.destroy_after_s,
    }


def format_table(keys: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """A line for each key, and what comes next for it."""
    rows = (
        (
            key["name"],
            key["state"],
            format_time(key["created_at"]),
            format_time(key["activate_at"]),
            _remark(key, now),
            key["kek"],
        )
        for key in keys
    )
    return "\n".join(table(_HEADS, rows))


def format_changes(changes: Sequence[Mapping[str, Any]]) -> str:
    """A line for each change, the oldest first."""
    if not changes:
        return "No change is recorded."
    rows = (
        (format_time(one["at"]), f"{one['user']} on {one['host']}", one["what"], one["key"] or "", one["reason"] or "")
        for one in changes
    )
    return "\n".join(table(("WHEN (UTC)", "WHO", "CHANGE", "KEY", "REASON"), rows, prose=True))


def _remark(key: Mapping[str, Any], now: datetime) -> str:
    state, until = key["state"], key["written_until"]
    if state == "pending":
        return f"active in {format_duration(max(0.0, (key['activate_at'] - now).total_seconds()), DELAYS)}"
    if state == "decrypt-only":
        # Overtaken in an emergency before its time came, it never becomes active.
        overtaken = "overtaken; " if key["activate_at"] > now else ""
        return overtaken + (
            f"may be retired from {format_time(until)} on" if until is not None and now < until else "may be retired"
        )
    since = key[f"{state}_at"] if state in {"retired", "destroyed"} else None
    return "" if since is None else f"since {format_time(since)}"


def format_time(time: datetime | None) -> str:
    """To the second, without the zone: the heads of the table say UTC."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
