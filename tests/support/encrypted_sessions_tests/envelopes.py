"""What a stored envelope says of itself, by the published format."""

from __future__ import annotations

import base64
import json


def kid_of(row: str | bytes) -> str:
    """The kid that a row names."""
    return str(json.loads(row)["kid"])


def timestamp_of(row: str | bytes) -> int:
    """The seconds since 1970 that a row's token claims."""
    return int.from_bytes(base64.urlsafe_b64decode(json.loads(row)["payload"])[1:9], "big")
