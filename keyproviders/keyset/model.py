"""The keyset as a value: which state each key is in, and the changes that are allowed.

Nothing here asks anybody or knows what time it is; times are whole Unix seconds. Which keys are
pending, active or decrypt-only is not written down: it follows from their order and from the time.
With the keys in the order in which they were added, retired and destroyed ones left out:

- active is the last one whose `activate_at` has come; where none has, the one whose comes first;
- those after it are pending, those before it decrypt-only.

So a key that was added for an emergency overtakes one that is still pending, for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from difflib import get_close_matches
from typing import Literal, NamedTuple

from ..errors import KeyProviderError
from ..key import is_key_name
from ..wrapping import WrappedKey

__all__ = [
    "DEFAULT_DELAY_S",
    "DEFAULT_DESTROY_AFTER_S",
    "KEPT_CHANGES",
    "MOST_DELAY_S",
    "Change",
    "KeyEntry",
    "Keyset",
    "KeysetRefusedError",
    "State",
    "context_of",
    "time_text",
]

#: A ring writes with the key that it knows for 300 s, and for 900 s while it cannot ask; 60 s for clocks.
DEFAULT_DELAY_S = 1_260
MOST_DELAY_S = 366 * 86_400
#: So long a retired key waits until it may be destroyed.
DEFAULT_DESTROY_AFTER_S = 7 * 86_400
#: So many of its changes a keyset has on record, the newest ones.
KEPT_CHANGES = 20

State = Literal["pending", "active", "decrypt-only", "retired", "destroyed"]

_SHOWN_NAMES = 10


class KeysetRefusedError(KeyProviderError):
    """The keyset's present state does not allow this change. Nothing was changed."""


class Change(NamedTuple):
    """One change of a keyset, as whoever made it said. Nothing proves it.

    Args:
        at: When, in Unix seconds.
        user: The name of the operating system's user.
        host: The name of the machine.
        what: The change: `create`, `rotate`, `rewrap`, `retire`, `restore`, `destroy`, `upgrade`.
        key: The name of the key that was changed, or None where it was all of them.
        reason: Why, in the operator's words, or None.
    """

    at: int
    user: str
    host: str
    what: str
    key: str | None = None
    reason: str | None = None


class KeyEntry(NamedTuple):
    """One key of a keyset. `ciphertext` is None once the key is destroyed; the rest is its record."""

    name: str
    created_at: int
    activate_at: int
    kek: str
    ciphertext: str | None
    retired_at: int | None = None
    destroyed_at: int | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it is neither retired nor destroyed."""
        return self.retired_at is None

    @property
    def wrapped(self) -> WrappedKey | None:
        """What its wrapper opens; None once it is destroyed."""
        return None if self.ciphertext is None else WrappedKey(self.kek, self.ciphertext)


class Keyset(NamedTuple):
    """Some keys under one name, in the order in which they were added. At least one is usable.

    One of format 1 has no `id` and no `changes`, and its `revision` and `destroy_after_s` are 0.

    The changes give a new keyset, or raise KeysetRefusedError.
    """

    name: str
    activation_delay_s: int
    entries: tuple[KeyEntry, ...]
    id: str | None = None
    revision: int = 0
    destroy_after_s: int = 0
    changes: tuple[Change, ...] = ()

    @property
    def format(self) -> int:
        """The format that it is written in."""
        return 1 if self.id is None else 2

    def context(self, entry: KeyEntry) -> dict[str, str]:
        """What is bound to a wrapped key of this keyset."""
        return context_of(self.name, self.id, entry.name, entry.created_at)

    @property
    def names(self) -> str:
        """The names of the newest keys, for messages."""
        more = len(self.entries) - _SHOWN_NAMES
        return ", ".join(entry.name for entry in self.entries[-_SHOWN_NAMES:]) + (
            f" and {more} more" if more > 0 else ""
        )

    def find(self, key_name: str) -> KeyEntry | None:
        """The key of that name, whatever its state; None if there never was one."""
        return next((entry for entry in self.entries if entry.name == key_name), None)

    def active(self, now: float) -> KeyEntry:
        """The key to encrypt with at that time."""
        usable = [entry for entry in self.entries if entry.is_usable]
        due = [entry for entry in usable if entry.activate_at <= now]
        return due[-1] if due else min(usable, key=lambda entry: entry.activate_at)

    def state(self, entry: KeyEntry, now: float) -> State:
        """The state of one of its keys at that time."""
        if entry.destroyed_at is not None:
            return "destroyed"
        if entry.retired_at is not None:
            return "retired"
        active = self.active(now)
        if entry.name == active.name:
            return "active"
        return "pending" if self.entries.index(entry) > self.entries.index(active) else "decrypt-only"

    def written_until(self, entry: KeyEntry) -> int | None:
        """Until when some process may still write with a key; None while nothing comes after it.

        A process that could not look since the next key became active goes on with this one for at
        most the activation delay.
        """
        later = self.entries[self.entries.index(entry) + 1 :]
        return min(one.activate_at for one in later) + self.activation_delay_s if later else None

    # Changes.

    def check_rotation(self, now: float) -> None:
        """Refuse to add another key while one is pending."""
        for entry in self.entries:
            if self.state(entry, now) == "pending":
                raise KeysetRefusedError(
                    f"the key {entry.name!r} of the keyset {self.name!r} is pending and becomes active at"
                    f" {time_text(entry.activate_at)}; rotate again after that, or in an emergency with --now"
                )

    def check_name(self, key_name: str) -> None:
        """Refuse a name that is in the keyset or was."""
        if self.find(key_name) is not None:
            raise KeysetRefusedError(
                f"the keyset {self.name!r} has or had a key {key_name!r}, and names are never reused;"
                " choose another name, or none"
            )

    def added(self, entry: KeyEntry) -> Keyset:
        """With one more key, under a name that was never in it."""
        self.check_name(entry.name)
        return self._replace(entries=(*self.entries, entry))

    def retired(self, key_name: str, now: float) -> Keyset:
        """With that key no longer handed out."""
        entry = self._known(key_name)
        state = self.state(entry, now)
        if state in {"retired", "destroyed"}:
            return self
        if state != "decrypt-only":
            raise KeysetRefusedError(
                f"the key {key_name!r} of the keyset {self.name!r} is {state}, and only a decrypt-only key can be"
                " retired; " + ("rotate first" if state == "active" else "wait until it is active")
            )
        until = self.written_until(entry)
        if until is not None and now < until:
            raise KeysetRefusedError(
                f"until {time_text(until)}, a process that has not seen the newer key may write with the"
                f" key {key_name!r} of the keyset {self.name!r}, and nobody could read what it writes; retire the"
                " key after that"
            )
        return self._with(entry._replace(retired_at=max(int(now), entry.created_at)))

    def restored(self, key_name: str) -> Keyset:
        """With that key handed out again."""
        entry = self._known(key_name)
        if entry.destroyed_at is not None:
            raise KeysetRefusedError(
                f"the key {key_name!r} of the keyset {self.name!r} was destroyed at {time_text(entry.destroyed_at)};"
                " only a copy of the keyset from before then brings it back"
            )
        return self._with(entry._replace(retired_at=None))

    def destroyed(self, key_name: str, now: float, *, at_once: bool = False) -> Keyset:
        """With nothing left of that key but its record. It has to have been retired for a while, unless `at_once`."""
        entry = self._known(key_name)
        if entry.destroyed_at is not None:
            return self
        if entry.retired_at is None:
            raise KeysetRefusedError(
                f"the key {key_name!r} of the keyset {self.name!r} is {self.state(entry, now)}, and only a retired"
                " key can be destroyed; retire it first, and make sure for a while that it is not needed"
            )
        until = entry.retired_at + self.destroy_after_s
        if self.destroy_after_s and now < until and not at_once:
            raise KeysetRefusedError(
                f"the key {key_name!r} of the keyset {self.name!r} was retired at {time_text(entry.retired_at)} and may"
                f" be destroyed from {time_text(until)} on, since it may still be needed; to destroy it now:"
                f" now=True, or on the command line --now {key_name}"
            )
        return self._with(entry._replace(ciphertext=None, destroyed_at=max(int(now), entry.retired_at)))

    def rewrapped(self, wrapped: Mapping[str, WrappedKey]) -> Keyset:
        """With these keys, by name, wrapped anew."""
        return self._replace(
            entries=tuple(
                entry._replace(kek=wrapped[entry.name].kek, ciphertext=wrapped[entry.name].ciphertext)
                if entry.name in wrapped
                else entry
                for entry in self.entries
            )
        )

    def upgraded(self, keyset_id: str, destroy_after_s: int) -> Keyset:
        """The same in format 2. Its keys are still to be bound to the id."""
        return self._replace(id=keyset_id, destroy_after_s=destroy_after_s)

    def recorded(self, change: Change) -> Keyset:
        """The next revision, with a change on record. One of format 1 has neither."""
        if self.id is None:
            return self
        return self._replace(revision=self.revision + 1, changes=(*self.changes, change)[-KEPT_CHANGES:])

    def _known(self, key_name: str) -> KeyEntry:
        entry = self.find(key_name)
        if entry is None:
            meant = get_close_matches(key_name, [one.name for one in self.entries], 1)
            raise KeysetRefusedError(
                f"the keyset {self.name!r} has no key"
                f" {repr(key_name) if is_key_name(key_name) else 'of that name (no key can have it)'};"
                f" it has {self.names}" + (f"; did you mean {meant[0]}?" if meant else "")
            )
        return entry

    def _with(self, changed: KeyEntry) -> Keyset:
        return self._replace(entries=tuple(changed if one.name == changed.name else one for one in self.entries))


def context_of(keyset: str, keyset_id: str | None, key: str, created_at: int) -> dict[str, str]:
    """What is bound to a wrapped key of that keyset, name and time. A keyset of format 1 has no id."""
    context = {"keyset": keyset, "key": key, "created_at": time_text(created_at)}
    return context if keyset_id is None else {**context, "keyset_id": keyset_id}


def time_text(seconds: int) -> str:
    """A time as it stands in keysets and messages: `2026-11-23T07:00:00Z`."""
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
