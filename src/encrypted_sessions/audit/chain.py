"""The lines of an audit log: each has a number, and a digest of the line before it."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyproviders import Key

__all__ = ["FIRST_PREV", "HMAC_SHA256", "SHA256", "as_json", "chained", "digest", "parsed"]

SHA256, HMAC_SHA256 = "sha256", "hmac-sha256"

# Made once: `json.dumps` makes one for each call.
as_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

# Copied for each line: a new one is looked up in OpenSSL, which takes as long as all else of a digest, and longer
# where nothing of that lies in the processor's caches.
_SHA256 = hashlib.sha256()

#: What stands for the line before the first one.
FIRST_PREV = "0" * 64


def digest(line: bytes, key: Key | None) -> str:
    """Of a line without its end: SHA-256, with a key HMAC-SHA256, in lower-case hex."""
    if key is None:
        hashing = _SHA256.copy()
        hashing.update(line)
        return hashing.hexdigest()
    return hmac.digest(key.secret, line, "sha256").hex()


def chained(number: int, prev: str, said: str) -> bytes:
    """The line of that number, without its end. `said` is JSON of an object that is not empty.

    It is ASCII, so that nothing in it ends the line or steers a terminal.
    """
    line = f'{{"n":{number},"prev":"{prev}",{said[1:]}'
    # The one character of ASCII that a terminal obeys and JSON does not escape.
    return line.replace("\x7f", "\\u007f").encode("ascii")


def parsed(line: bytes) -> dict[str, Any]:
    """The fields of a line. Raises ValueError for what is none."""
    try:
        fields = json.loads(line)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(fields, dict):
        raise ValueError("no object")  # noqa: TRY004 - a ValueError as all that JSON itself refuses
    number, prev = fields.get("n"), fields.get("prev")
    if type(number) is not int or number < 1 or not isinstance(prev, str):
        raise ValueError("without number and digest")
    return fields
