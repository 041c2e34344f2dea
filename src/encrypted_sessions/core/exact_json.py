"""Items to JSON and back, exactly: what comes back is equal to what went in.

Python's json module changes some values on the way (a key 1 becomes "1", NaN becomes no JSON at
all). Here each of these is a TypeError before anything is written. Tuples become lists, kinds of
dict, list, str, int and float become what they hold as such, and surrogates that stand alone are
escaped, since UTF-8 has no place for them.

Most items are small and of exact types, and these are written as they are. Any other item is first
copied into exact types: so an object of a class of its own cannot show one thing to the checks and
another to json, and a shared list is measured, not written, before it is known to be too long.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, Literal

from .accelerated import accelerator

if TYPE_CHECKING:
    import json

__all__ = [
    "MAX_DEPTH",
    "NotExactError",
    "NotJsonError",
    "TooLongError",
    "as_object",
    "decode_item",
    "decode_json",
    "encode_item",
]

#: Python reads no integer with more digits from text (sys.int_info.default_max_str_digits).
_MAX_DIGITS = 4300

#: Levels of nesting. Python's parser gives up at about 1,000, less what the caller's stack uses;
#: half of that can be read from anywhere.
MAX_DEPTH = 500

#: Types of what holds nothing else.
_LEAVES = frozenset({str, int, float, bool, type(None)})

_ONLY_STR = frozenset({str})

#: Integers that are far from having too many digits.
_LEAST, _MOST = -(2**63), 2**63 - 1

#: Floats between these are written without an exponent, by Python and by others. Odd are the rest: of an exponent there
#: are several ways to write it, and NaN and the infinities are refused.
_SMALL, _LARGE = 1e-4, 1e16

#: A dict or list with more elements is counted: the same one may be in an item many times.
_MANY = 4096
_TOO_MANY = 1_000_000

_TOO_DEEP = f"an item is nested deeper than {MAX_DEPTH} levels, or holds itself"
_NOT_JSON = (
    "an item holds a value that is not JSON (allowed: dict with str keys, list, tuple,"
    " str, bool, None, int, finite float)"
)


@cache
def _codecs() -> tuple[json.JSONDecoder, json.JSONEncoder]:
    import json  # noqa: PLC0415 - a fifth of the time of importing this package, and often loaded already

    # Without json's own search for circular references, which costs a third of the time: an item that
    # holds itself never comes here.
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
    return json.JSONDecoder(), encoder


class NotExactError(TypeError):
    """A value that JSON would not give back equal."""


class TooLongError(ValueError):
    """An item whose JSON would be longer than it may be."""


class NotJsonError(ValueError):
    """The bytes are not JSON, or not that of an object."""


def encode_item(item: object, max_bytes: int | None = None, *, pad: bool = False) -> bytes:
    """The compact UTF-8 JSON of an item, a dict or a Pydantic model, with `pad` followed by blanks (`padding`).

    Raises TypeError, which names the kind of value and never the value, for anything that JSON
    would not give back equal: other types, keys that are no str, NaN and infinities, integers of
    more than 4,300 digits, nesting deeper than 500 levels, a circular reference. Raises TooLongError
    above `max_bytes`, before so much was written.
    """
    item = item if isinstance(item, dict) else as_object(item)
    limit = sys.maxsize if max_bytes is None else max_bytes
    try:
        kind = _kind(item, limit)
        written = _accelerated(item) if kind == "plain" else None
        if written is None:
            text = _codecs()[1].encode(item if kind else _ExactCopies(limit).of(item))
    except NotExactError as error:
        refused = str(error)
    except TooLongError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        refused = _why_not_json(error)
    else:
        if written is None:
            written = _as_utf8(text)
        if written is not None:
            if pad:
                from .padding import padded  # noqa: PLC0415 - few sessions pad

                written = padded(written)
            if len(written) <= limit:
                return written
            raise _too_long(limit)
        # Two lone surrogates side by side would come back as the one character that the pair means.
        refused = "an item holds a surrogate pair as two characters, which JSON returns as one"
    # Raised out here, so that no error with the item in it comes along as the context.
    raise TypeError(f"{refused}; nothing was written")


def _accelerated(item: dict[str, Any]) -> bytes | None:
    """The JSON of a plain item; None for a lone surrogate, and for more levels than are written so."""
    fast = accelerator()
    if fast is None:
        return None
    try:
        return fast.to_json(item)
    except ValueError:
        return None


def _as_utf8(text: str) -> bytes | None:
    """JSON text as bytes; None for a surrogate pair in two characters."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # holds the text: an error raised in here would carry it along
        pass
    if re.search("[\ud800-\udbff][\udc00-\udfff]", text):
        return None
    # Outside strings JSON is ASCII, so a surrogate stands in a string, where \udXXX is its escape.
    return text.encode("utf-8", "backslashreplace")


def _too_long(limit: int) -> TooLongError:
    return TooLongError(f"an item's JSON is longer than {limit:,} bytes; nothing was written")


def as_object(item: Any) -> dict[str, Any]:
    """An item as a dict: itself, or what a Pydantic model holds, in JSON mode; else TypeError."""
    return item if isinstance(item, dict) else _dump(item)


def _dump(item: Any) -> dict[str, Any]:
    # A model's own errors and warnings would quote values.
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
        value, end = decoder.raw_decode(text)  # saves the search for white space before it
        return decoder.decode(text) if text[end:].strip(" \t\n\r") else value
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
    fast = accelerator()
    if fast is not None:
        try:
            value = fast.from_json(data)
        except ValueError:  # a lone surrogate, many levels, or what is no JSON
            value = None
        if type(value) is dict:
            return value
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
        return _TOO_DEEP
    if isinstance(error, TypeError):
        return _NOT_JSON
    return (
        "an item holds NaN, an infinity, or an integer of more than"
        f" {_MAX_DIGITS:,} digits, which JSON cannot return exactly"
    )


def _kind(item: dict[str, Any], limit: int) -> Literal["plain", "odd floats"] | None:  # noqa: C901 - a call for each value would take longer
    """Whether an item is of exact types all through, and what any reader of JSON gives back as it is.

    None for any other: one with more dicts and lists than there may be levels, with integers of more than 64 bits, and
    what is obviously too long. Runs for every item that is written.
    """
    containers: list[Any] = [item]
    dicts: list[dict[Any, Any]] = []
    found, leaves = containers.append, _LEAVES  # looked up once, since it is for each value
    values: Iterable[Any]
    length = many = 0
    odd = False
    for container in islice(containers, MAX_DEPTH):  # which grows
        kind = type(container)
        if kind is dict:
            dicts.append(container)
            values = container.values()
        elif kind is list or kind is tuple:
            values = container
        else:
            return None
        if len(container) > _MANY:
            many += len(container)
            if many > min(limit, _TOO_MANY):
                return None
        for value in values:
            kind = type(value)
            if kind is str:
                length += len(value)
            elif kind not in leaves:
                found(value)
            elif kind is float:
                odd = odd or not (_SMALL <= value < _LARGE or value == 0 or -_LARGE < value <= -_SMALL)
            elif kind is int and not _LEAST <= value <= _MOST:
                return None
    keys = dicts[0] if len(dicts) == 1 else chain.from_iterable(dicts)
    if length > limit or len(containers) > MAX_DEPTH or not _ONLY_STR.issuperset(map(type, keys)):
        return None
    return "odd floats" if odd else "plain"


class _Copying:
    """A dict, list or tuple whose copy is being made."""

    __slots__ = ("copy", "key", "length", "levels", "parts", "source")

    def __init__(self, source: Any) -> None:
        kind = type(source)
        self.source = source
        self.parts: Iterator[tuple[Any, Any]]
        self.copy: Any
        if issubclass(kind, dict):
            self.parts, self.copy = iter(dict.items(source)), {}
        else:
            elements = list if issubclass(kind, list) else tuple
            self.parts, self.copy = zip(repeat(None), elements.__iter__(source)), []
        self.key: Any = None  # of the part that is copied next
        self.length = 1  # a bracket, and for each part a comma or the other bracket
        self.levels = 1

    def add(self, part: Any, length: int, levels: int) -> None:
        self.length += length + 1
        self.levels = max(self.levels, levels + 1)
        if type(self.copy) is list:
            self.copy.append(part)
            return
        if not issubclass(type(self.key), str):
            raise NotExactError(f"an item has a key of type {type(self.key).__name__}, but JSON keys are str")
        name = str.__str__(self.key)
        if name in self.copy:
            raise NotExactError("an item has two keys that are the same in JSON")
        self.copy[name] = part
        self.length += len(name)


class _ExactCopies:
    """A copy of an item in exact types. What is shared is copied once, and measured each time.

    Not by recursion, for which the caller's stack may leave no room.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._done: dict[int, _Copying] = {}
        self._open: set[int] = set()

    def of(self, item: object) -> Any:
        stack = [self._begin(item, 0)]
        while True:
            inner = self._add_parts(stack[-1], len(stack))
            if inner is not None:
                stack.append(inner)
                continue
            made = stack.pop()
            self._open.remove(id(made.source))
            self._done[id(made.source)] = made
            if not stack:
                return made.copy
            self._add(stack[-1], made.copy, made.length, made.levels)

    def _add_parts(self, whole: _Copying, depth: int) -> _Copying | None:
        """Go on copying; what has to be copied first, if there is such a part."""
        for key, part in whole.parts:
            whole.key = key
            if not issubclass(type(part), (dict, list, tuple)):
                self._add(whole, *_exact_leaf(part), 0)
                continue
            made = self._done.get(id(part))
            if made is None:
                return self._begin(part, depth)
            if depth + made.levels > MAX_DEPTH:
                raise NotExactError(_TOO_DEEP)
            self._add(whole, made.copy, made.length, made.levels)
        return None

    def _begin(self, source: object, depth: int) -> _Copying:
        if id(source) in self._open:
            raise NotExactError("an item holds itself")
        if depth == MAX_DEPTH:
            raise NotExactError(_TOO_DEEP)
        self._open.add(id(source))
        return _Copying(source)

    def _add(self, whole: _Copying, part: Any, length: int, levels: int) -> None:
        whole.add(part, length, levels)
        if whole.length > self._limit:
            raise _too_long(self._limit)


@cache
def _too_high() -> int:
    return 10**_MAX_DIGITS  # type: ignore[no-any-return]  # not negative, so an int


def _exact_leaf(value: Any) -> tuple[Any, int]:
    """A value that holds no other in its exact type, and how many characters it will have at least."""
    kind = type(value)  # as json asks: isinstance would take an object's word for what it is
    if issubclass(kind, str):
        text = str.__str__(value)
        return text, len(text)
    if issubclass(kind, int):
        number = value if kind is bool else int.__int__(value)
        if abs(number) >= _too_high():
            raise NotExactError(f"an item holds an integer of more than {_MAX_DIGITS:,} digits")
        return number, 1
    if issubclass(kind, float):
        return float.__float__(value), 1
    if value is None:
        return None, 1
    raise NotExactError(_NOT_JSON)
