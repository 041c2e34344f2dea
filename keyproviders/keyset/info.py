"""A keyset as `KeysetManager` shows it: its keys with their states, and its changes."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from .model import Change, KeyEntry, Keyset, State

__all__ = ["KeyInfo", "KeysetChange", "KeysetInfo", "change_info", "key_info", "keyset_info"]


class KeyInfo(NamedTuple):
    """One key of a keyset as it is now. Times are aware and in UTC; nothing here is secret.

    Args:
        name: Its name.
        state: `pending`, `active`, `decrypt-only`, `retired` or `destroyed`.
        created_at: When it was made.
        activate_at: When it can become the active key.
        kek: The key-encryption key that wraps it, or wrapped it last.
        written_until: Until when a process may still write with it; None for a key that is active or pending.
        retired_at: When it was retired, or None.
        destroyed_at: When it was destroyed, or None.
    """

    name: str
    state: State
    created_at: datetime
    activate_at: datetime
    kek: str
    written_until: datetime | None
    retired_at: datetime | None
    destroyed_at: datetime | None


class KeysetChange(NamedTuple):
    """One change of a keyset, as stated by whoever made it. It is not proven.

    Args:
        at: When, aware and in UTC.
        user: The name of the operating system's user.
        host: The name of the machine.
        what: The change: `create`, `rotate`, `rewrap`, `retire`, `restore`, `destroy`, `upgrade`.
        key: The name of the key that was changed, or None if all keys were changed.
        reason: Why, or None.
    """

    at: datetime
    user: str
    host: str
    what: str
    key: str | None
    reason: str | None


class KeysetInfo(NamedTuple):
    """A keyset as it is now. A keyset of format 1 has no id and does not record changes.

    Args:
        name: Its name.
        activation_delay_s: How long a new key waits until it becomes active, in seconds.
        keys: Its keys, the oldest first.
        format: The format that it is written in, 1 or 2.
        id: Its id, or None.
        revision: How many times it was written; 0 in format 1.
        destroy_after_s: How long a retired key waits until it may be destroyed, in seconds.
        changes: Its last changes, the oldest first.
    """

    name: str
    activation_delay_s: int
    keys: tuple[KeyInfo, ...]
    format: int = 1
    id: str | None = None
    revision: int = 0
    destroy_after_s: int = 0
    changes: tuple[KeysetChange, ...] = ()


def keyset_info(keyset: Keyset, now: float) -> KeysetInfo:
    """All of it as it is at that time."""
    return KeysetInfo(
        keyset.name,
        keyset.activation_delay_s,
        tuple(key_info(keyset, entry, now) for entry in keyset.entries),
        keyset.format,
        keyset.id,
        keyset.revision,
        keyset.destroy_after_s,
        tuple(map(change_info, keyset.changes)),
    )


def change_info(change: Change) -> KeysetChange:
    """One of its changes."""
    return KeysetChange(_time(change.at), change.user, change.host, change.what, change.key, change.reason)


def key_info(keyset: Keyset, entry: KeyEntry, now: float) -> KeyInfo:
    """One of its keys as it is at that time."""
    state = keyset.state(entry, now)
    until = None if state in {"active", "pending"} else keyset.written_until(entry)
    return KeyInfo(
        entry.name,
        state,
        _time(entry.created_at),
        _time(entry.activate_at),
        entry.kek,
        None if until is None else _time(until),
        None if entry.retired_at is None else _time(entry.retired_at),
        None if entry.destroyed_at is None else _time(entry.destroyed_at),
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
