"""What a stored envelope says of itself, by the published format."""

from __future__ import annotations

import base64
import json


def kid_of(row: str | bytes) -> str:
    """The kid that a row names."""
    return str(json.loads(row)["kid"])


def timestamp_of(row: str | bytes) -> int:
    """The seconds since 1970 at which a row claims to have been sealed."""
    stored = json.loads(row)
    if stored["v"] == 2:
        return int.from_bytes(base64.b64decode(stored["p"])[3:8], "big")
    return int.from_bytes(base64.urlsafe_b64decode(stored["payload"])[1:9], "big")
