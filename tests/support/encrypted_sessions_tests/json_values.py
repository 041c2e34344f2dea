"""Strategies for what an item may hold, and for what it may not, and exact equality."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import re
import struct
import uuid
from functools import cache
from typing import Any

from hypothesis import strategies as st

_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class Colour(enum.Enum):
    RED = "red"


@cache
def texts() -> st.SearchStrategy[str]:
    """Any text, lone surrogates and NUL included; no surrogate pair in two characters."""
    anything = st.text(st.characters(exclude_categories=()), max_size=12)
    awkward = st.text(st.sampled_from('\0\ud800\udfff"\\/\u2028\x7f\x1f\n\U0001f600é\ufeff'), max_size=6)
    return (anything | awkward).filter(lambda text: not _SPLIT_PAIR.search(text))


@cache
def integers() -> st.SearchStrategy[int]:
    """Any integer up to 4,300 digits."""
    huge = st.builds(lambda digits, sign: sign * (10**digits - 1), st.integers(4000, 4300), st.sampled_from([1, -1]))
    return st.integers() | st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, -1, 2**53, 2**63]) | huge


@cache
def floats() -> st.SearchStrategy[float]:
    """Any finite float."""
    return st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 1e16, 5e-324, 1e308])


@cache
def values() -> st.SearchStrategy[Any]:
    """Any value that an item may hold."""
    leaves = st.none() | st.booleans() | integers() | floats() | texts()
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(texts(), inner, max_size=4)
        ),
        max_leaves=12,
    )


@cache
def items() -> st.SearchStrategy[dict[str, Any]]:
    """Any item."""
    return st.dictionaries(texts(), values(), max_size=5)


@cache
def bad_leaves() -> st.SearchStrategy[Any]:
    """Values that JSON cannot give back."""
    return st.sampled_from(
        [
            float("nan"),
            float("inf"),
            float("-inf"),
            10**4300,
            -(10**5000),
            "\ud83d\ude00",
            b"bytes",
            bytearray(b"bytes"),
            {1, 2},
            frozenset(),
            1j,
            object(),
            object,
            decimal.Decimal(1),
            fractions.Fraction(1, 2),
            dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc),
            uuid.UUID(int=1),
            Colour.RED,
            range(3),
            {1: "a"},
            {None: "a"},
            {True: "a"},
            {1.5: "a"},
            {b"a": "a"},
            {("a",): "a"},
            {"\ud83d\ude00": 1},
            {"a": {2: {}}},
        ]
    )


@st.composite
def bad_items(draw: st.DrawFn) -> dict[str, Any]:
    """An item that is good but for one place."""
    value = draw(bad_leaves())
    for _ in range(draw(st.integers(0, 4))):
        beside = draw(values())
        name = draw(texts())
        value = draw(
            st.sampled_from([[value], [beside, value], (value, beside), {name: value}, {"a": beside, "b": value}])
        )
    return {**draw(items()), "bad": value}


def given_back(value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists."""
    if isinstance(value, dict):
        return {key: given_back(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [given_back(inner) for inner in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types, with the same sign of zero and the same order of keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    return bool(one == other)
