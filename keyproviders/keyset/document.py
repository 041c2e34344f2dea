"""The keyset as a value: what its text says, which state each key is in, and the changes that are allowed.

Nothing here asks anybody or knows what time it is; times are whole Unix seconds, UTC in the text.
Which keys are pending, active or decrypt-only is not written down: it follows from their order and
from the time. With the keys in the order in which they were added, retired and destroyed ones left
out:

- active is the last one whose ``activate_at`` has come; where none has, the one whose comes first;
- those after it are pending, those before it decrypt-only.

So a key that was added for an emergency overtakes one that is still pending, for good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal, NamedTuple

from ..errors import InvalidKeyError, KeyProviderError, ProviderConfigError
from ..key import is_key_name
from .stores.base import MOST_BYTES
from .wrapping import WrappedKey

__all__ = [
    "DEFAULT_DELAY_S",
    "MOST_DELAY_S",
    "KeyEntry",
    "Keyset",
    "KeysetRefusedError",
    "State",
    "context_of",
    "dump",
    "parse",
    "time_text",
]

FORMAT = 1

#: A ring writes with the key that it knows for 300 s, and for 900 s while it cannot ask; 60 s for clocks.
DEFAULT_DELAY_S = 1_260
MOST_DELAY_S = 366 * 86_400

State = Literal["pending", "active", "decrypt-only", "retired", "destroyed"]

_SHOWN_NAMES = 10
_LONGEST_KEK = 2_048
_LONGEST_CIPHERTEXT = 16_384

# Nothing that is added to a time leaves what a date can be.
_LATEST_YEAR = "8999"
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z\Z", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]+\Z")

# The fields of a key in each state that is written down, in this order.
_FIELDS = {
    "usable": ("name", "state", "created_at", "activate_at", "kek", "wrapped"),
    "retired": ("name", "state", "created_at", "activate_at", "retired_at", "kek", "wrapped"),
    "destroyed": ("name", "state", "created_at", "activate_at", "retired_at", "destroyed_at", "kek"),
}
_TOP = ("format", "keyset", "activation_delay_s", "keys")


class KeysetRefusedError(KeyProviderError):
    """The keyset's present state does not allow this change. Nothing was changed."""


class KeyEntry(NamedTuple):
    """One key of a keyset. ``ciphertext`` is None once the key is destroyed; the rest is its record."""

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

    The changes give a new keyset, or raise KeysetRefusedError.
    """

    name: str
    activation_delay_s: int
    entries: tuple[KeyEntry, ...]

    def context(self, entry: KeyEntry) -> dict[str, str]:
        """What is bound to a wrapped key of this keyset."""
        return context_of(self.name, entry.name, entry.created_at)

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
                f"the keyset {self.name!r} has or had a key {key_name!r}, and names are never used again; choose"
                " another one, or none"
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
                " retired; " + ("rotate first" if state == "active" else "it would have to become active first")
            )
        until = self.written_until(entry)
        if until is not None and now < until:
            raise KeysetRefusedError(
                f"a process that could not see the newer key may write with the key {key_name!r} of the keyset"
                f" {self.name!r} until {time_text(until)}, and nobody could read what it writes; retire it after that"
            )
        return self._with(entry._replace(retired_at=max(int(now), entry.created_at)))

    def restored(self, key_name: str) -> Keyset:
        """With that key handed out again."""
        entry = self._known(key_name)
        if entry.destroyed_at is not None:
            raise KeysetRefusedError(
                f"the key {key_name!r} of the keyset {self.name!r} was destroyed at {time_text(entry.destroyed_at)};"
                " nothing brings it back but a copy of the keyset from before that"
            )
        return self._with(entry._replace(retired_at=None))

    def destroyed(self, key_name: str, now: float) -> Keyset:
        """With nothing left of that key but its record."""
        entry = self._known(key_name)
        if entry.destroyed_at is not None:
            return self
        if entry.retired_at is None:
            raise KeysetRefusedError(
                f"the key {key_name!r} of the keyset {self.name!r} is {self.state(entry, now)}, and only a retired"
                " key can be destroyed; retire it first, and see for a while that nobody misses it"
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

    def _known(self, key_name: str) -> KeyEntry:
        entry = self.find(key_name)
        if entry is None:
            raise KeysetRefusedError(
                f"the keyset {self.name!r} has no key"
                f" {repr(key_name) if is_key_name(key_name) else 'of that name (no key can have it)'};"
                f" it has {self.names}"
            )
        return entry

    def _with(self, changed: KeyEntry) -> Keyset:
        return self._replace(entries=tuple(changed if one.name == changed.name else one for one in self.entries))


def context_of(keyset: str, key: str, created_at: int) -> dict[str, str]:
    """What is bound to a wrapped key of that keyset, name and time."""
    return {"keyset": keyset, "key": key, "created_at": time_text(created_at)}


def time_text(seconds: int) -> str:
    """A time as it stands in keysets and messages: ``2026-11-23T07:00:00Z``."""
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def dump(keyset: Keyset) -> str:
    """The text of a keyset, which ``parse`` reads. Raises KeysetRefusedError when it is too long for that."""
    top = {
        "format": FORMAT,
        "keyset": keyset.name,
        "activation_delay_s": keyset.activation_delay_s,
        "keys": [_as_json(entry) for entry in keyset.entries],
    }
    text = json.dumps(top, indent=2) + "\n"
    if len(text) > MOST_BYTES:
        raise KeysetRefusedError(
            f"the keyset {keyset.name!r} would have {len(text)} bytes, and at most {MOST_BYTES} can be read again;"
            " begin another keyset, and read this one through also_read="
        )
    return text


def parse(text: str, name: str, where: str) -> Keyset:
    """The keyset of that name that a text says. ``where`` names the text in messages.

    Raises InvalidKeyError for a text that is damaged, and ProviderConfigError for one that is of a
    later format or of another keyset.
    """
    try:
        return _parsed(text, name, where)
    except _DamageError as damage:
        problem = str(damage)
    raise InvalidKeyError(
        f"{where} is no keyset: {problem}; put back its last good copy (nothing writes over it as it is)"
    )


class _DamageError(Exception):
    """What is wrong with a text, in words."""


def _as_json(entry: KeyEntry) -> dict[str, str]:
    state = "usable" if entry.is_usable else "retired" if entry.destroyed_at is None else "destroyed"
    values = entry._asdict()
    values["state"], values["wrapped"] = state, entry.ciphertext
    return {
        field: time_text(values[field]) if isinstance(values[field], int) else values[field] for field in _FIELDS[state]
    }


def _parsed(text: str, name: str, where: str) -> Keyset:
    if not text.strip():
        raise _DamageError("it is empty")
    if len(text) > MOST_BYTES:
        raise _DamageError(f"it has more than {MOST_BYTES} characters")
    top = _loaded(text)
    _check_format(top, where)
    _check_fields(top, _TOP, "it")
    found = top["keyset"]
    if not isinstance(found, str) or not is_key_name(found):
        raise _DamageError("its 'keyset' is no name")
    if found != name:
        raise ProviderConfigError(f"{where} has the name {found!r} in it; ask for that one, or for another place")
    delay_s = top["activation_delay_s"]
    if type(delay_s) is not int or not 1 <= delay_s <= MOST_DELAY_S:
        raise _DamageError(f"its 'activation_delay_s' is no whole number from 1 to {MOST_DELAY_S}")
    listed = top["keys"]
    if not isinstance(listed, list):
        raise _DamageError("its 'keys' is no list")
    entries = tuple(_entry(one, f"key {at} of {len(listed)}") for at, one in enumerate(listed, 1))
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise _DamageError("two of its keys have the same name")
    if not any(entry.is_usable for entry in entries):
        raise _DamageError("it has no key that can be used" + (": all are retired or destroyed" if entries else ""))
    return Keyset(name, delay_s, entries)


def _loaded(text: str) -> dict[str, Any]:
    try:
        top = json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        problem = "it is no JSON" + (f" from line {line} on" if line is not None else "")
    else:
        if isinstance(top, dict):
            return top
        problem = "it is no JSON object"
    raise _DamageError(problem)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DamageError("one of its objects has a field twice")
    return found


def _check_format(top: dict[str, Any], where: str) -> None:
    if "format" not in top:
        raise _DamageError("it has no 'format'")
    found = top["format"]
    if type(found) is not int or found < 1:
        raise _DamageError("its 'format' is no number of a format")
    if found != FORMAT:
        raise ProviderConfigError(
            f"{where} is of format {found if found < 1_000_000 else '1000000 or more'}, and this release knows format"
            f" {FORMAT}; install the release that wrote it"
        )


def _check_fields(found: dict[str, Any], wanted: tuple[str, ...], what: str) -> None:
    missing = [field for field in wanted if field not in found]
    if missing:
        raise _DamageError(f"{what} lacks {missing[0]!r}")
    if len(found) > len(wanted):
        # Kept out rather than passed over: the next change would drop it.
        raise _DamageError(f"{what} has fields that format {FORMAT} does not have")


def _entry(found: object, what: str) -> KeyEntry:
    if not isinstance(found, dict):
        raise _DamageError(f"{what} is no object")
    state = found.get("state")
    if not isinstance(state, str) or state not in _FIELDS:
        raise _DamageError(f"{what} has no state that format {FORMAT} knows")
    _check_fields(found, _FIELDS[state], what)
    name = found["name"]
    if not isinstance(name, str) or not is_key_name(name):
        raise _DamageError(f"{what} has no name that a key can have")
    what = f"{what} ({name})"
    entry = KeyEntry(
        name,
        _time(found["created_at"], f"the 'created_at' of {what}"),
        _time(found["activate_at"], f"the 'activate_at' of {what}"),
        _text(found["kek"], _LONGEST_KEK, f"the 'kek' of {what}"),
        None if state == "destroyed" else _text(found["wrapped"], _LONGEST_CIPHERTEXT, f"the 'wrapped' of {what}"),
        None if state == "usable" else _time(found["retired_at"], f"the 'retired_at' of {what}"),
        _time(found["destroyed_at"], f"the 'destroyed_at' of {what}") if state == "destroyed" else None,
    )
    times = [time for time in (entry.created_at, entry.retired_at, entry.destroyed_at) if time is not None]
    if times != sorted(times) or entry.activate_at < entry.created_at:
        raise _DamageError(f"the times of {what} are not in their order")
    return entry


def _time(found: object, what: str) -> int:
    match = _TIME.match(found) if isinstance(found, str) else None
    if match is not None and "1970" <= match[1] <= _LATEST_YEAR:
        try:
            year, month, day, hour, minute, second = map(int, match.groups())
            return int(datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp())
        except ValueError:
            pass  # the 30th of February
    raise _DamageError(f"{what} is no time such as 2026-11-23T07:00:00Z")


def _text(found: object, longest: int, what: str) -> str:
    if not isinstance(found, str) or len(found) > longest or not _PRINTABLE.match(found):
        raise _DamageError(f"{what} is no text of 1 to {longest} printable characters without spaces")
    return found
