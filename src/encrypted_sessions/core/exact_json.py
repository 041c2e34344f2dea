"""Items to JSON and back, exactly: what comes back is equal to what went in.

Python's json module changes some values on the way (a key 1 becomes "1", NaN becomes no JSON at
all). Here each of these is a TypeError before anything is written. Tuples become lists, and
surrogates that stand alone are escaped, since UTF-8 has no place for them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import json

#: Python reads no integer with more digits from text (sys.int_info.default_max_str_digits).
_MAX_DIGITS = 4300
_TOO_HIGH = 10**_MAX_DIGITS
_TOO_LOW = -_TOO_HIGH

#: Levels of nesting. Python's parser gives up at about 1,000, less what the caller's stack uses;
#: half of that can be read from anywhere.
MAX_DEPTH = 500

#: Types of what holds nothing else.
_LEAVES = frozenset({str, int, float, bool, type(None)})

#: The one ASCII character that json's encoder for ASCII writes otherwise than its encoder for any text.
_DEL = "\x7f"


@cache
def _codecs() -> tuple[json.JSONDecoder, json.JSONEncoder, json.JSONEncoder]:
    """The decoder, the encoder, and the encoder of what is all ASCII: the same text in two thirds of the time."""
    import json  # noqa: PLC0415 - a fifth of the time of importing this package, and often loaded already

    # Without json's own search for circular references, which costs a third of the time: such an
    # item is nested without end, and refused for that.
    of_any, of_ascii = (
        json.JSONEncoder(ensure_ascii=in_ascii, allow_nan=False, check_circular=False, separators=(",", ":"))
        for in_ascii in (False, True)
    )
    return json.JSONDecoder(), of_any, of_ascii


class NotExactError(TypeError):
    """A value that JSON would not give back equal."""


class NotJsonError(ValueError):
    """The bytes are not JSON, or not that of an object."""


def encode_item(item: object) -> bytes:
    """The compact UTF-8 JSON of an item, a dict or a Pydantic model.

    Raises TypeError, which names the kind of value and never the value, for anything that JSON
    would not give back equal: other types, keys that are no str, NaN and infinities, integers of
    more than 4,300 digits, nesting deeper than 500 levels, a circular reference.
    """
    if not isinstance(item, dict):
        item = _dump(item)
    try:
        in_ascii = _check_exact(item, MAX_DEPTH)
        _, of_any, of_ascii = _codecs()
        text = (of_ascii if in_ascii else of_any).encode(item)
        if in_ascii is None:  # json has now found that the item ends somewhere
            _check_exact(item)
    except NotExactError as error:
        refused = str(error)
    except (TypeError, ValueError, RecursionError) as error:
        refused = _why_not_json(error)
    else:
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError:
            pass
        if not re.search("[\ud800-\udbff][\udc00-\udfff]", text):
            # Outside strings JSON is ASCII, so a surrogate stands in a string, where \udXXX is its escape.
            return text.encode("utf-8", "backslashreplace")
        # Two lone surrogates side by side would come back as the one character that the pair means.
        refused = "an item holds a surrogate pair as two characters, which JSON gives back as one"
    # Raised out here, so that no error with the item in it comes along as the context.
    raise TypeError(f"{refused}; nothing was written")


def _dump(item: Any) -> dict[str, Any]:
    """What a Pydantic model holds, in JSON mode. Its own errors and warnings would quote values."""
    kind = f"the class {item.__name__}" if isinstance(item, type) else type(item).__name__
    refused = f"an item must be a dict or a Pydantic model, not {kind}"
    dump = getattr(item, "model_dump", None)
    if callable(dump) and not isinstance(item, type):
        try:
            dumped = dump(mode="json", warnings=False)
        except Exception as error:  # noqa: BLE001 - whatever a model's own serializers raise
            refused = f"an item, a {kind}, cannot be dumped as JSON ({type(error).__name__})"
        else:
            if isinstance(dumped, dict):
                return dumped
    raise TypeError(f"{refused}; nothing was written")


def decode_json(data: str | bytes) -> object:
    """The value in JSON text: UTF-8, or UTF-16 without a mark, as an SQLite database may keep it.

    Raises NotJsonError for anything else.
    """
    decoder = _codecs()[0]
    try:
        text = data if isinstance(data, str) else data.decode(_encoding(data))
        if text[:1] != "{":  # white space, or no object: rare enough to be slow
            return decoder.decode(text)
        value, end = decoder.raw_decode(text)  # saves the search for white space around it
        return value if end == len(text) else decoder.decode(text)
    except (ValueError, RecursionError):
        # ValueError covers bad UTF-8, bad JSON and integers that Python refuses to read;
        # RecursionError is a text nested deeper than any that this library writes.
        raise NotJsonError("not JSON") from None


def _encoding(data: bytes) -> str:
    if b"\0" not in data[:2]:  # JSON text has no NUL, so this is half of a UTF-16 character
        return "utf-8"
    return "utf-16-be" if data[0] == 0 else "utf-16-le"


def decode_item(data: bytes) -> dict[str, Any]:
    """The item in bytes that `encode_item` gave. Raises NotJsonError for any other bytes."""
    try:
        item = decode_json(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise NotJsonError("not UTF-8") from None
    if not isinstance(item, dict):
        raise NotJsonError("not a JSON object")
    return item


def _why_not_json(error: Exception) -> str:
    # The json module's own texts can quote a value, so each case has words of ours.
    if isinstance(error, RecursionError):
        return f"an item is nested deeper than {MAX_DEPTH} levels, or holds itself"
    if isinstance(error, TypeError):
        return (
            "an item holds a value that is not JSON (allowed: dict with str keys, list, tuple,"
            " str, bool, None, int, finite float)"
        )
    return (
        "an item holds NaN, an infinity, or an integer of more than"
        f" {_MAX_DIGITS:,} digits, which JSON cannot give back"
    )


def _check_exact(item: dict[str, Any], at_most: int | None = None) -> bool | None:
    """Refuse what json writes and does not give back equal: keys that are no str, and too much of something.

    Whether all text in the item is known to be ASCII (and not DEL); None, and nothing is said, when
    the item has more than `at_most` dicts and lists.
    """
    containers, dicts, in_ascii = _spread_out(item, at_most)
    if at_most is not None and len(containers) > at_most:
        return None
    try:
        keys = "".join(chain.from_iterable(dicts))
    except TypeError:
        kinds = (type(key) for one in dicts for key in one)
        wrong = next((kind.__name__ for kind in kinds if not issubclass(kind, str)), "another")
        raise NotExactError(f"an item has a key of type {wrong}, and JSON keys are str") from None
    if len(containers) > MAX_DEPTH:
        _check_depth(item)
    if not 0 < getattr(sys, "get_int_max_str_digits", int)() <= _MAX_DIGITS:  # 3.10.7 and newer
        _check_integers(containers)
    return in_ascii and keys.isascii() and _DEL not in keys


def _spread_out(item: dict[str, Any], at_most: int | None) -> tuple[list[Any], list[dict[Any, Any]], bool]:
    """What is no leaf in an item, itself first; the dicts among these; whether the values' text is all ASCII.

    Looks into no more than `at_most`. Runs for every item that is written, hence one plain loop.
    """
    containers: list[Any] = [item]
    dicts: list[dict[Any, Any]] = []
    values: Iterable[Any]
    in_ascii = True
    for container in islice(containers, at_most):  # which grows
        kind = type(container)
        if kind is dict:
            dicts.append(container)
            values = container.values()
        elif kind is list or kind is tuple:
            values = container
        else:
            in_ascii = False  # json may find something else in it than is found here
            values = _values(container)
            if issubclass(kind, dict):
                dicts.append(container)
        for value in values:
            kind = type(value)
            if kind is str:
                if _DEL in value or not value.isascii():
                    in_ascii = False
            elif kind not in _LEAVES:
                containers.append(value)
    return containers, dicts, in_ascii


def _check_depth(item: dict[str, Any]) -> None:
    level: list[Any] = [item]
    for _ in range(MAX_DEPTH):
        inside = chain.from_iterable(map(_values, level))
        level = [value for value in inside if type(value) not in _LEAVES]
        if not level:
            return
    raise NotExactError(f"an item is nested deeper than {MAX_DEPTH} levels")


def _check_integers(containers: list[Any]) -> None:
    """For an interpreter that would write integers of any length, and not read them everywhere."""
    for container in containers:
        for value in (container, *_values(container)):
            if issubclass(type(value), int) and not _TOO_LOW < value < _TOO_HIGH:
                raise NotExactError(f"an item holds an integer of more than {_MAX_DIGITS:,} digits")


def _values(container: Any) -> Iterable[Any]:
    kind = type(container)  # as json asks: isinstance would take an object's word for what it is
    values: Iterable[Any] = ()
    if issubclass(kind, dict):
        values = container.values()
    elif issubclass(kind, (list, tuple)):
        values = container
    return values
