"""Strict base64, and rows taken apart: one model of the format, written out again."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from encrypted_sessions.core.envelope import Envelope, pack, parse, parse_row
from encrypted_sessions.core.suites.fernet_v1 import decode_base64url, encode_base64url
from encrypted_sessions_tests.json_values import values
from encrypted_sessions_tests.soak import Rounds, Seed

TEXTS = 220_000
AT_LEAST = 22_000
"""In every run, which takes a tenth of a second."""

BASE64_URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def strictly_decoded(text: str) -> bytes | None:
    """The definition: the bytes whose encoding is this text, if there are such bytes."""
    if len(text) % 4 or not set(text) <= set(BASE64_URL + "="):
        return None
    try:
        data = base64.urlsafe_b64decode(text)
    except ValueError:
        return None
    return data if base64.urlsafe_b64encode(data).decode("ascii") == text else None


def nearly_base64() -> st.SearchStrategy[str]:
    """Base64 with a few characters put in, taken out, exchanged or moved."""
    good = st.binary(max_size=40).map(lambda data: base64.urlsafe_b64encode(data).decode("ascii"))
    odd = st.sampled_from([*"=+/-_Az09", "\n", " ", "\0", "é", "\ud800", "==", "==="])
    at = st.integers(0, 60)
    return st.one_of(
        good,
        st.builds(lambda text, odd, at: text[:at] + odd + text[at:], good, odd, at),
        st.builds(lambda text, odd, at: text[:at] + odd + text[at + 1 :], good, odd, at),
        st.builds(lambda text, at: text[:at] + text[at + 1 :], good, at),
        st.builds(str.__add__, good, good),
        st.text(st.sampled_from(BASE64_URL + "=+/\n"), max_size=24),
    )


@given(st.text(max_size=24) | nearly_base64())
@example("")
@example("=")
@example("====")
@example("QQ==")
@example("QR==")
@example("QUE=")
@example("QUF=")
@example("QQ==QQ==")
@example("QQ=Q")
@example("QUFB====")
def test_decoding_accepts_what_encoding_gives_and_nothing_else(text: str) -> None:
    # What is no ASCII is refused before it comes here (`parse`).
    assert decode_base64url(b'"%b"' % text.encode("utf-8", "surrogatepass")) == strictly_decoded(text)


def texts_at_random(count: int, chance: random.Random) -> Iterator[str]:
    """Good base64, the same with one character exchanged, put in or taken out, and texts of its characters."""
    characters = BASE64_URL + "=+/\n *\0"
    for _ in range(count):
        good = base64.urlsafe_b64encode(chance.randbytes(chance.randrange(40))).decode("ascii")
        at = chance.randrange(len(good) + 1)
        odd = chance.choice(characters)
        kind = chance.randrange(6)
        if kind == 0:
            yield good
        elif kind == 1:
            yield good[:at] + odd + good[at + 1 :]
        elif kind == 2:
            yield good[:at] + odd + good[at:]
        elif kind == 3:
            yield good[:at] + good[at + 1 :]
        elif kind == 4:  # the last group alone decides about spare bits and padding
            yield good[:-2] + chance.choice(BASE64_URL) + chance.choice(["=", "==", odd])
        else:
            yield "".join(chance.choices(characters, k=chance.randrange(24)))


@pytest.mark.parametrize("_", ["few", pytest.param("all", marks=pytest.mark.soak)])
def test_base64_is_taken_exactly_where_it_is_what_encoding_gives(_: str, rounds: Rounds, seed: Seed) -> None:
    count = max(rounds.of(TEXTS), AT_LEAST)
    taken = 0
    for text in texts_at_random(count, random.Random(seed)):
        expected = strictly_decoded(text)
        assert decode_base64url(b'"%b"' % text.encode("ascii")) == expected, text
        taken += expected is not None
    assert count // 5 < taken < count // 2


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_every_last_group_there_can_be_is_taken_exactly_where_its_spare_bits_are_zero(padding: str) -> None:
    for last in itertools.product(BASE64_URL, repeat=2):
        text = "QUFB" + ("AA" + "".join(last) if not padding else "A" * (2 - len(padding)) + "".join(last) + padding)
        assert decode_base64url(b'"%b"' % text.encode("ascii")) == strictly_decoded(text), text


@given(st.binary(max_size=200))
def test_encoding_is_the_urlsafe_alphabet_with_padding(data: bytes) -> None:
    assert encode_base64url(data) == base64.urlsafe_b64encode(data).decode("ascii")
    assert decode_base64url(b'"%b"' % encode_base64url(data).encode("ascii")) == data


# -- A row is an envelope, plaintext, unsupported or malformed ------------------------------------

TOKEN = b"\x80" + bytes(72)


def tokens() -> st.SearchStrategy[bytes]:
    lengths = st.sampled_from([0, 1, 56, 57, 72, 73, 74, 88, 89, 105, 120])
    return st.builds(
        lambda first, length, fill: (bytes([first]) + bytes([fill]) * length)[:length],
        st.sampled_from([0x80, 0x80, 0x80, 0x81, 0]),
        lengths,
        st.integers(0, 255),
    )


def kids() -> st.SearchStrategy[Any]:
    return st.sampled_from(
        ["hkdf-v1", "a~0123abcd", "", "~", "é", '"', "\\", "\x1b", "\ud800", "a" * 300, 7, None, ["a"]]
    )


def payloads() -> st.SearchStrategy[Any]:
    encoded = tokens().map(encode_base64url)
    return encoded | st.sampled_from([None, 5, True, "", "****"]) | encoded.map(lambda text: text + "\n")


def objects() -> st.SearchStrategy[Any]:
    """Objects around the form of an envelope."""
    numbers = st.sampled_from([1, 1, 1, 1, 1.0, True, "1", 3, 0, -1, None, 10**30])
    parts = st.fixed_dictionaries(
        {"__enc__": numbers, "v": numbers, "kid": kids(), "payload": payloads()},
        optional={"more": st.integers(), "": st.none()},
    )
    without = st.tuples(parts, st.sets(st.sampled_from(["__enc__", "v", "kid", "payload"]), max_size=2)).map(
        lambda both: {name: part for name, part in both[0].items() if name not in both[1]}
    )
    good = st.builds(pack, st.sampled_from(["hkdf-v1", "name~01234567"]), st.just(TOKEN))
    return parts | without | good | values()


def expected(stored: Any) -> tuple[str, Any]:
    """What a stored object is, by the format's definition."""
    if type(stored) is not dict:
        return "malformed", None
    if "__enc__" not in stored:
        return "plaintext", stored
    mark, version = stored["__enc__"], stored.get("v")
    if type(mark) is not int or mark != 1 or type(version) is not int or version < 1:
        return "malformed", None
    if version > 2:
        return "unsupported", None
    kid, payload = stored.get("kid"), stored.get("payload")
    if not isinstance(kid, str) or not isinstance(payload, str):
        return "malformed", None
    token = strictly_decoded(payload)
    if token is None or len(token) < 73 or (len(token) - 73) % 16 or token[0] != 0x80:
        return "malformed", None
    return "envelope", (kid, token)


def kind_of(found: Any) -> tuple[str, Any]:
    if isinstance(found, Envelope):
        return "envelope", (found.kid, found.body)
    return ("plaintext", found) if isinstance(found, dict) else (found, None)


@given(objects())
def test_an_object_is_what_the_format_says(stored: Any) -> None:
    assert kind_of(parse(stored)) == expected(stored)


@given(
    objects(),
    st.sampled_from([None, (",", ":"), (", ", ": "), (" ,", " : ")]),
    st.booleans(),
    st.sampled_from(["", " ", "\n"]),
)
def test_a_row_is_what_its_json_says_however_it_is_spaced(
    stored: Any, separators: tuple[str, str] | None, sort: bool, around: str
) -> None:
    text = around + json.dumps(stored, separators=separators, sort_keys=sort) + around
    for row in (text, text.encode("ascii")):
        assert kind_of(parse_row(row)) == expected(json.loads(text))


def common_rows() -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda kid, token, separators: json.dumps(pack(kid, token), separators=separators).encode(),
        st.sampled_from(
            ["hkdf-v1", "name~01234567", "~01234567", 'a"b~01234567', r"a\b~01234567", "é~01234567", "\x7f", ""]
        ),
        st.just(TOKEN) | tokens(),
        st.sampled_from([(",", ":"), (", ", ": ")]),
    )


@given(common_rows())
def test_a_row_as_stores_write_it_is_what_its_json_says(row: bytes) -> None:
    assert kind_of(parse_row(row)) == kind_of(parse_row(row.decode())) == expected(json.loads(row))


@given(common_rows(), st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3))
def test_a_row_with_some_bytes_exchanged_is_what_its_json_says(row: bytes, at: int, put: bytes, out: int) -> None:
    row = row[:at] + put + row[at + out :]
    try:
        stored = expected(json.loads(row.decode("utf-8")))
    except ValueError:
        stored = ("malformed", None)
    assert kind_of(parse_row(row)) == stored


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_any_bytes_and_any_text_are_something(row: str | bytes) -> None:
    kind, _ = kind_of(parse_row(row))
    assert kind in ("plaintext", "malformed")


@pytest.mark.parametrize("levels", [400, 990, 1_000, 1_010, 5_000, 200_000])
def test_a_row_nested_to_any_depth_is_something(levels: int) -> None:
    for row in ('{"a":' * levels + "1" + "}" * levels, '{"__enc__":' * levels + "1" + "}" * levels, "[" * levels):
        kind, _ = kind_of(parse_row(row))
        assert kind in ("plaintext", "malformed")


def test_the_first_key_of_two_with_one_name_does_not_count() -> None:
    # Python's parser, and so every store, takes the last one.
    row = (
        '{"__enc__": 1, "v": 2, "v": 1, "kid": "x", "kid": "a~01234567", "payload": '
        + json.dumps(encode_base64url(TOKEN))
        + "}"
    )
    assert kind_of(parse_row(row)) == ("envelope", ("a~01234567", TOKEN))


@given(st.binary(min_size=8, max_size=8), st.text(max_size=5))
def test_an_envelope_claims_the_time_in_its_token(timestamp: bytes, kid: str) -> None:
    found = parse(pack(kid, TOKEN[:1] + timestamp + TOKEN[9:]))
    assert isinstance(found, Envelope)
    assert (found.version, found.timestamp, found.expires) == (1, int.from_bytes(timestamp, "big"), None)
