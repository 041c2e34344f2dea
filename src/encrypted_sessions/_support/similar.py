"""What somebody may have meant who named something that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from .terminal import printable

__all__ = ["did_you_mean"]

#: So many are named.
_MOST = 3

#: So many are compared: whoever writes to a store chooses what is in it.
_MOST_COMPARED = 2_000

_NEARLY = 0.7


def did_you_mean(given: str, known: Iterable[str], *, within: bool = False) -> str:
    """` Did you mean X?`, or `within` a sentence ` (did you mean X?)`; nothing where nothing known is nearly the same.

    Of the public id of a key, its name or its fingerprint alone is enough, and so is the other way around.
    """
    others = [one for one in dict.fromkeys(known) if one != given][:_MOST_COMPARED]
    meant = [one for one in others if _is_in_part(one, given)]
    near = get_close_matches(given, others, _MOST, _NEARLY)
    if "~" not in given:  # a name that is nearly the one of a key
        names = [one.rpartition("~")[0] for one in others]
        nearly = get_close_matches(given, names, _MOST, _NEARLY)
        near += [one for one, name in zip(others, names, strict=True) if name and name in nearly]
    meant += [one for one in dict.fromkeys(near) if one not in meant]
    if not meant:
        return ""
    shown = " or ".join(map(printable, meant[:_MOST]))
    return f" (did you mean {shown}?)" if within else f" Did you mean {shown}?"


def _is_in_part(known: str, given: str) -> bool:
    """Whether one has the name or the fingerprint of the other, and one of them is the public id of a key."""
    if "~" not in known:
        return known == given.rpartition("~")[0] != ""
    name, _, fingerprint = known.rpartition("~")
    return given.partition("~")[0] == name != "" or given.rpartition("~")[2] == fingerprint
