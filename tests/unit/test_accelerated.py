"""With `pydantic_core` and without it, the same is written, read and refused."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from encrypted_sessions.core import accelerated, exact_json
from encrypted_sessions.core.exact_json import decode_item, encode_item
from encrypted_sessions.core.suites import fernet_v1
from encrypted_sessions.core.suites.fernet_v1 import decode_base64url, encode_base64url
from encrypted_sessions_tests.json_values import bad_items, items, same

pytest.importorskip("pydantic_core")


@contextmanager
def without_pydantic_core() -> Iterator[None]:
    with (
        mock.patch.object(exact_json, "accelerator", return_value=None),
        mock.patch.object(fernet_v1, "accelerator", return_value=None),
    ):
        yield


def outcome(work: Callable[[Any], Any], given_value: Any) -> tuple[str, Any]:
    """What comes of it: the result, or the kind and the words of an error."""
    try:
        return "given", work(given_value)
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)


def test_it_is_used_where_it_is_installed() -> None:
    assert accelerated.accelerator() is not None


@given(items() | bad_items())
@example({"a": [float("inf")]})
@example({"a": float("nan")})
@example({"a": 2**63, "b": -(2**63), "c": -(2**63) - 1})
@example({"a": "\ud800", "b": ["\udc00"]})
@example({"a": "\ud83d\ude00"})
@example({"a": [0.1, -2.5, 0.0001, 0.00012, 0.00001, -1e-5, 1e15, 1e16, 1e22, 123456789012345680.0]})
@example({"a": 10**4299, "b": -(10**4299)})
@example({"a": 10**4300})
@example({"a": 1e16, "b": 5e-324, "c": -0.0, "d": "\x7f\x00\u2028"})
def test_the_same_bytes_are_written_and_the_same_items_refused(item: dict[str, Any]) -> None:
    with without_pydantic_core():
        expected = outcome(encode_item, item)
    assert outcome(encode_item, item) == expected


@pytest.mark.parametrize("depth", [100, 199, 200, 254, 255, 256, 498, 499, 500, 501])
def test_an_item_is_written_and_read_whatever_its_depth(depth: int) -> None:
    """`pydantic_core` gives up at some depth in between."""
    item: dict[str, Any] = {}
    for _ in range(depth - 1):
        item = {"a": item}
    with without_pydantic_core():
        expected = outcome(encode_item, item)
    written = outcome(encode_item, item)
    assert written == expected
    assert written[0] == ("TypeError" if depth > exact_json.MAX_DEPTH else "given")
    if written[0] == "given":
        assert decode_item(written[1]) == item


ODD_JSON = [
    b'{"a":NaN}',
    b'{"a":1e400}',
    b'{"a":-0}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\ud83d\\ude00"}',
    b'{"a":1,"a":2}',
    b' {"a":1} ',
    b'{"a":1}x',
    b"\xef\xbb\xbf{}",
    b'{"a":"\x00"}',
    b'{"a":01}',
    b'{"a":[1,]}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":' + b"1" * 4300 + b"}",
    b'{"a":' + b"1" * 4301 + b"}",
    b'{"a":0.1234567890123456789012345678901234567890}',
    b"[]",
    b"1",
    b"",
    b"{}".decode().encode("utf-16-le"),
]


@pytest.mark.parametrize("data", ODD_JSON, ids=lambda data: repr(data[:30]))
def test_odd_json_is_read_alike(data: bytes) -> None:
    with without_pydantic_core():
        expected = outcome(decode_item, data)
    found = outcome(decode_item, data)
    assert found[0] == expected[0]
    assert same(found[1], expected[1])


@given(st.binary(max_size=60) | items().map(encode_item))
def test_any_bytes_are_read_alike(data: bytes) -> None:
    with without_pydantic_core():
        expected = outcome(decode_item, data)
    found = outcome(decode_item, data)
    assert found[0] == expected[0]
    assert same(found[1], expected[1])


ESCAPES = [
    rb"\u0041\u0041\u0041\u0041",
    rb"\u0041AAAAAAAAA",
    rb"AA\/AAAAA",
    rb"\"AAAAAA",
    rb"AAAA\\AA",
    b'AAA"',
    b'AAAA"   ',
]


@pytest.mark.parametrize("text", ESCAPES)
def test_an_escape_of_json_is_no_base64(text: bytes) -> None:
    assert decode_base64url(b'"%b"' % text) is None


@given(st.binary(max_size=40), st.randoms(use_true_random=False))
def test_base64_is_taken_alike(data: bytes, chance: random.Random) -> None:
    good = bytearray(encode_base64url(data).encode("ascii"))
    for _ in range(chance.randrange(3)):
        at = chance.randrange(len(good) + 1)
        good[at : at + chance.randrange(2)] = bytes([chance.choice(b'AQg-_+/=\\"u \n\x00\xff')])
    with without_pydantic_core():
        expected = decode_base64url(b'"%b"' % good)
    assert decode_base64url(b'"%b"' % good) == expected


@pytest.mark.parametrize("missing", ["all", "an argument"])
def test_what_is_not_installed_or_too_old_is_not_used(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "all":
        monkeypatch.setitem(sys.modules, "pydantic_core", None)
    else:
        monkeypatch.setattr("pydantic_core.from_json", lambda data: {})
    assert accelerated.accelerator.__wrapped__() is None
