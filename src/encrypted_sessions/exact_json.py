"""Items to JSON and back, exactly: what comes back is equal to what went in.

Python's json module changes some values on the way (a key 1 becomes "1", NaN becomes no JSON at
all). Here each of these is a TypeError before anything is written. Tuples become lists, and
surrogates that stand alone are escaped, since UTF-8 has no place for them.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: Python reads no integer with more digits from text (sys.int_info.default_max_str_digits).
_MAX_DIGITS = 4300
_INT_BOUND = 10**_MAX_DIGITS

#: Levels of nesting. Python's parser gives up at about 1,000, less what the caller's stack uses;
#: half of that can be read from anywhere.
MAX_DEPTH = 500

# Two lone surrogates side by side would come back as the one character that the pair means.
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder()


class NotJsonError(ValueError):
    """The bytes are not the JSON of an object."""


def encode_item(item: object) -> bytes:
    """The compact UTF-8 JSON of an item, a dict or a Pydantic model.

    Raises TypeError, which names the kind of value and never the value, for anything that JSON
    would not give back equal: other types, keys that are no str, NaN and infinities, integers of
    more than 4,300 digits, nesting deeper than 500 levels, a circular reference.
    """
    dump = getattr(item, "model_dump", None)
    if dump is not None and not isinstance(item, dict):
        item = dump(mode="json")
    if not isinstance(item, dict):
        raise TypeError(f"an item must be a dict or a Pydantic model, not {type(item).__name__}; nothing was written")
    try:
        text = _encoder.encode(item)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(_why_not_json(error)) from None
    _check_exact(item)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _escape_surrogates(text)


def decode_item(data: bytes) -> dict[str, Any]:
    """The item in bytes that `encode_item` gave. Raises NotJsonError for any other bytes."""
    try:
        item = _decoder.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise NotJsonError("not JSON") from None
    if not isinstance(item, dict):
        raise NotJsonError("not a JSON object")
    return item


def _why_not_json(error: Exception) -> str:
    # The json module's own texts can quote a value, so each case has words of ours.
    if isinstance(error, RecursionError):
        return f"an item is nested deeper than {MAX_DEPTH} levels; nothing was written"
    if isinstance(error, TypeError):
        return (
            "an item holds a value that is not JSON (allowed: dict with str keys, list, tuple,"
            " str, bool, None, int, finite float); nothing was written"
        )
    return (
        "an item holds NaN, an infinity, a reference to itself, or an integer of more than"
        f" {_MAX_DIGITS:,} digits, which JSON cannot give back; nothing was written"
    )


def _check_exact(item: dict[Any, Any]) -> None:
    """Refuse what json would write, but not give back equal. Level by level, to bound the depth."""
    level: list[Any] = [item]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if isinstance(node, str):
                continue
            if isinstance(node, dict):
                for key in node:
                    if not isinstance(key, str):
                        raise TypeError(
                            f"an item has a key of type {type(key).__name__}, and JSON keys are"
                            " str; nothing was written"
                        )
                below.extend(node.values())
            elif isinstance(node, (list, tuple)):
                below.extend(node)
            elif isinstance(node, int) and not -_INT_BOUND < node < _INT_BOUND:
                raise TypeError(f"an item holds an integer of more than {_MAX_DIGITS:,} digits; nothing was written")
        if not below:
            return
        level = below
    raise TypeError(f"an item is nested deeper than {MAX_DEPTH} levels; nothing was written")


def _escape_surrogates(text: str) -> bytes:
    if _SPLIT_PAIR.search(text):
        raise TypeError(
            "an item holds a surrogate pair as two characters, which JSON gives back as one; nothing was written"
        )
    # Outside strings JSON is ASCII, so a surrogate stands in a string, where \udXXX is its escape.
    return text.encode("utf-8", "backslashreplace")
