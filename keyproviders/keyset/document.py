"""The text of a keyset, as it lies in a store: written in one form only, and read strictly.

Times are UTC in the text. What is damaged, or has a field that this format does not have, is refused
whole, so that no change writes over it.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

from ..errors import InvalidKeyError, ProviderConfigError
from ..key import is_key_name
from .model import KEPT_CHANGES, MOST_DELAY_S, Change, KeyEntry, Keyset, KeysetRefusedError, time_text
from .stores.base import MOST_BYTES

__all__ = ["LONGEST_REASON", "change_of", "dump", "is_keyset_id", "parse", "text_of_change"]

FORMATS = (1, 2)

_LONGEST_KEK = 2_048
_LONGEST_CIPHERTEXT = 16_384
_LONGEST_WHO = 255
LONGEST_REASON = 500
# What every reader of JSON takes as a whole number.
_LAST_REVISION = (1 << 53) - 1

# Nothing that is added to a time leaves what a date can be.
_LATEST_YEAR = "8999"
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z\Z", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]+\Z")
_ID = re.compile(r"[0-9a-f]{32}\Z")
_WHAT = re.compile(r"[a-z][a-z-]{0,31}\Z")

# The fields of a key in each state that is written down, in this order.
_FIELDS = {
    "usable": ("name", "state", "created_at", "activate_at", "kek", "wrapped"),
    "retired": ("name", "state", "created_at", "activate_at", "retired_at", "kek", "wrapped"),
    "destroyed": ("name", "state", "created_at", "activate_at", "retired_at", "destroyed_at", "kek"),
}
_TOP = {
    1: ("format", "keyset", "activation_delay_s", "keys"),
    2: (
        "format",
        "keyset",
        "id",
        "revision",
        "activation_delay_s",
        "destroy_after_s",
        "keys",
        "changes",
    ),
}
_CHANGE = ("at", "user", "host", "what", "key", "reason")


def dump(keyset: Keyset) -> str:
    """The text of a keyset, which `parse` reads. Raises KeysetRefusedError when it is too long for that."""
    values = {
        **keyset._asdict(),
        "format": keyset.format,
        "keyset": keyset.name,
        "keys": [_as_json(entry) for entry in keyset.entries],
        "changes": list(map(_change_as_json, keyset.changes)),
    }
    top = {field: values[field] for field in _TOP[keyset.format]}
    text = json.dumps(top, indent=2) + "\n"
    if len(text) > MOST_BYTES:
        raise KeysetRefusedError(
            f"the keyset {keyset.name!r} would have {len(text)} bytes, and at most {MOST_BYTES} can be read"
            " again; start another keyset, and read this one through also_read="
        )
    return text


def parse(text: str, name: str, where: str) -> Keyset:
    """The keyset of that name that a text says. `where` names the text in messages.

    Raises InvalidKeyError for a text that is damaged, and ProviderConfigError for one that is of a
    later format or of another keyset.
    """
    try:
        return _parsed(text, name, where)
    except _DamageError as damage:
        problem = str(damage)
    raise InvalidKeyError(
        f"{where} is not a keyset: {problem}; restore its last good copy (it is never overwritten in this state)"
    )


def text_of_change(change: Change) -> str:
    """A change in one line, which `change_of` reads."""
    return json.dumps(_change_as_json(change))


def change_of(text: str) -> Change | None:
    """The change that such a line says; None where it says none."""
    try:
        return _change(json.loads(text), "it")
    except (ValueError, RecursionError, _DamageError):
        return None


def is_keyset_id(text: str) -> bool:
    """Whether a keyset can have this id."""
    return _ID.match(text) is not None


class _DamageError(Exception):
    """What is wrong with a text, in words."""


def _change_as_json(change: Change) -> dict[str, Any]:
    return {**change._asdict(), "at": time_text(change.at)}


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
    version = _format_of(top, where)
    _check_fields(top, _TOP[version], "it", version)
    found = top["keyset"]
    if not isinstance(found, str) or not is_key_name(found):
        raise _DamageError("its 'keyset' is not a name")
    if found != name:
        raise ProviderConfigError(f"{where} contains the name {found!r}; use that name, or another location")
    delay_s = top["activation_delay_s"]
    if type(delay_s) is not int or not 1 <= delay_s <= MOST_DELAY_S:
        raise _DamageError(f"its 'activation_delay_s' is not a whole number from 1 to {MOST_DELAY_S}")
    listed = top["keys"]
    if not isinstance(listed, list):
        raise _DamageError("its 'keys' is not a list")
    entries = tuple(_entry(one, f"key {at} of {len(listed)}", version) for at, one in enumerate(listed, 1))
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise _DamageError("two of its keys have the same name")
    if not any(entry.is_usable for entry in entries):
        raise _DamageError("it has no key that can be used" + (": all are retired or destroyed" if entries else ""))
    keyset = Keyset(name, delay_s, entries)
    return keyset if version == 1 else keyset._replace(**_only_in_format_2(top))


def _only_in_format_2(top: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(top["id"], str) or not is_keyset_id(top["id"]):
        raise _DamageError("its 'id' is not an id of 32 hex digits")
    for field, least, most in (("revision", 1, _LAST_REVISION), ("destroy_after_s", 0, MOST_DELAY_S)):
        if type(top[field]) is not int or not least <= top[field] <= most:
            raise _DamageError(f"its {field!r} is not a whole number from {least} to {most}")
    listed = top["changes"]
    if not isinstance(listed, list) or len(listed) > KEPT_CHANGES:
        raise _DamageError(f"its 'changes' is not a list of up to {KEPT_CHANGES}")
    changes = tuple(_change(one, f"change {at} of {len(listed)}") for at, one in enumerate(listed, 1))
    return {**{field: top[field] for field in ("id", "revision", "destroy_after_s")}, "changes": changes}


def _change(found: object, what: str) -> Change:
    if not isinstance(found, dict):
        raise _DamageError(f"{what} is not an object")
    _check_fields(found, _CHANGE, what, 2)
    if not isinstance(found["what"], str) or not _WHAT.match(found["what"]):
        raise _DamageError(f"the 'what' of {what} is not a word")
    key = found["key"]
    if key is not None and (not isinstance(key, str) or not is_key_name(key)):
        raise _DamageError(f"the 'key' of {what} is not a name")
    return Change(
        _time(found["at"], f"the 'at' of {what}"),
        _words(found["user"], _LONGEST_WHO, f"the 'user' of {what}"),
        _words(found["host"], _LONGEST_WHO, f"the 'host' of {what}"),
        found["what"],
        key,
        None if found["reason"] is None else _words(found["reason"], LONGEST_REASON, f"the 'reason' of {what}"),
    )


def _loaded(text: str) -> dict[str, Any]:
    try:
        top = json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        problem = "it is not JSON" + (f" from line {line} on" if line is not None else "")
    else:
        if isinstance(top, dict):
            return top
        problem = "it is not a JSON object"
    raise _DamageError(problem)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DamageError("one of its objects has a field twice")
    return found


def _format_of(top: dict[str, Any], where: str) -> int:
    if "format" not in top:
        raise _DamageError("it has no 'format'")
    found = top["format"]
    if type(found) is not int or found < 1:
        raise _DamageError("its 'format' is not the number of a format")
    if found not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise ProviderConfigError(
            f"{where} is of format {found if found < 1_000_000 else '1000000 or more'}, but this release"
            f" reads formats {known}; install the release that wrote it"
        )
    return found


def _check_fields(found: dict[str, Any], wanted: tuple[str, ...], what: str, version: int) -> None:
    missing = [field for field in wanted if field not in found]
    if missing:
        raise _DamageError(f"{what} lacks {missing[0]!r}")
    if len(found) > len(wanted):
        # Kept out rather than passed over: the next change would drop it.
        raise _DamageError(f"{what} has fields that are not part of format {version}")


def _entry(found: object, what: str, version: int) -> KeyEntry:
    if not isinstance(found, dict):
        raise _DamageError(f"{what} is not an object")
    state = found.get("state")
    if not isinstance(state, str) or state not in _FIELDS:
        raise _DamageError(f"{what} has a state that is not part of format {version}")
    _check_fields(found, _FIELDS[state], what, version)
    name = found["name"]
    if not isinstance(name, str) or not is_key_name(name):
        raise _DamageError(f"{what} has a name that a key cannot have")
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
        raise _DamageError(f"the times of {what} are out of order")
    return entry


def _time(found: object, what: str) -> int:
    match = _TIME.match(found) if isinstance(found, str) else None
    if match is not None and "1970" <= match[1] <= _LATEST_YEAR:
        try:
            year, month, day, hour, minute, second = map(int, match.groups())
            return int(datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp())
        except ValueError:
            pass  # the 30th of February
    raise _DamageError(f"{what} is not a time such as 2026-11-23T07:00:00Z")


def _text(found: object, longest: int, what: str) -> str:
    if not isinstance(found, str) or len(found) > longest or not _PRINTABLE.match(found):
        raise _DamageError(f"{what} is not text of 1 to {longest} printable characters without spaces")
    return found


def _words(found: object, longest: int, what: str) -> str:
    # Shown on terminals.
    if not isinstance(found, str) or not 1 <= len(found) <= longest or not found.isprintable():
        raise _DamageError(f"{what} is not a line of 1 to {longest} printable characters")
    return found
