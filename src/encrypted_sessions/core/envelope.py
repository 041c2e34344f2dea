"""The stored object: which suite sealed it, under which key, and the body that the suite made.

    {"__enc__": 1, "v": <version>, "kid": "<kid>", "<the suite's member>": "<body>"}

The Agents SDK (0.24.0) writes and reads the same object of version 1, with its member `payload`, and
ignores the value of `kid`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from .exact_json import NotJsonError, decode_json
from .kids import KID_CHARACTERS
from .suites import SUITES, WRITTEN
from .suites.suite import Envelope, Suite

__all__ = [
    "ROW_END",
    "UPSTREAM_KID",
    "Envelope",
    "NoEnvelope",
    "Plain",
    "label_of",
    "openings",
    "pack",
    "pack_row",
    "parse",
    "parse_row",
    "read_label",
]

#: The kid that the Agents SDK's class writes, whatever the key.
UPSTREAM_KID = "hkdf-v1"

_KID_BYTES = KID_CHARACTERS.encode("ascii")

# How `pack`'s object looks in JSON: with spaces, as most rows are, since sessions write so; and as `pack_row` writes.
_COMMON_FORMS = tuple(
    (
        f'{{"__enc__":{_}1,{_}"v":{_}{suite.version},{_}"kid":{_}"'.encode(),
        f'",{_}"{suite.member}":{_}"'.encode(),
        suite,
    )
    for suite in SUITES.values()
    for _ in (" ", "")
)

_QUOTE = ord('"')
#: What ends a common row, with the second quotation mark of its body.
ROW_END = b'"}'

#: No text before a body is longer, with a kid of this library's.
_LONGEST_LABEL = 256

#: A JSON object that is no envelope: plaintext.
Plain = dict[str, Any]

NoEnvelope = Literal["malformed", "unsupported"]


def pack(kid: str, body: bytes, suite: Suite = WRITTEN) -> dict[str, Any]:
    """The JSON object to store for a body that a suite sealed under `kid`."""
    return {"__enc__": 1, "v": suite.version, "kid": kid, suite.member: suite.encode(body)}


def pack_row(kid: str, body: bytes, suite: Suite = WRITTEN) -> str:
    """The same as compact JSON text, for changing a row in place. A key's kid needs no escaping."""
    return f'{{"__enc__":1,"v":{suite.version},"kid":"{kid}","{suite.member}":"{suite.encode(body)}"}}'


def openings(kid: str | None) -> tuple[str, ...]:
    """How the text of rows with this kid (None: any) begins, maintenance's first: a label, and proof of nothing."""
    return tuple(
        opening.decode() + (f"{kid}{between.decode()}" if kid else "") for opening, between, _ in _COMMON_FORMS[::-1]
    )


def parse_row(data: str | bytes) -> Envelope | Plain | NoEnvelope:
    """Take a row's JSON text (UTF-8) apart; what is no JSON is malformed.

    The exact text that stores write for `pack` is not parsed as JSON, which saves half of the time. That takes no
    liberty: with a kid of plain characters and a body that its suite accepts, no byte of it is left unexplained.
    """
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    label = label_of(raw)
    kid, suite = read_label(label)
    found = None if suite is None else suite.parse(kid, raw[len(label) - 1 : -1])
    if found is not None:
        return found
    try:
        return parse(decode_json(data))
    except NotJsonError:
        return "malformed"


def label_of(data: bytes) -> bytes:
    """The text of a row that looks like a common one up to its body's first quotation mark; nothing for any other."""
    end = data.rfind(_QUOTE, 0, -2) + 1
    return data[:end] if end <= _LONGEST_LABEL and data.endswith(ROW_END) else b""


@lru_cache(256)  # the rows of a history have few
def read_label(label: bytes) -> tuple[str, Suite | None]:
    """The kid and the suite in a common row's label."""
    for opening, between, suite in _COMMON_FORMS:
        kid = label[len(opening) : -len(between)]
        if label == opening + kid + between and kid and not kid.translate(None, _KID_BYTES):
            return kid.decode("ascii"), suite
    return "", None


def parse(stored: object) -> Envelope | Plain | NoEnvelope:
    """Take a stored object apart. Plaintext comes back as it is."""
    if not isinstance(stored, dict):
        return "malformed"
    if "__enc__" not in stored:
        return stored
    mark, version = stored["__enc__"], stored.get("v")
    # JSON's true is an int to isinstance, and equal to 1.
    if type(mark) is not int or mark != 1 or type(version) is not int:
        return "malformed"
    suite = SUITES.get(version)
    if suite is None:
        return "unsupported" if version > max(SUITES) else "malformed"
    kid, body = stored.get("kid"), stored.get(suite.member)
    if not isinstance(kid, str) or not isinstance(body, str):
        return "malformed"
    try:
        return suite.parse(kid, b'"%b"' % body.encode("ascii")) or "malformed"
    except UnicodeEncodeError:
        return "malformed"
