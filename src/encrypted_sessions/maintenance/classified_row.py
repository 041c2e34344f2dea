"""What was found out about one row."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.cipher import Opener
from ..core.envelope import Envelope
from ..stores.whole import StoredRow

__all__ = ["ClassifiedRow"]


class ClassifiedRow(NamedTuple):
    """A row and what it is.

    `outcome` is an outcome's name, or "not_opened". `timestamp` is proven where the outcome says so.
    `item` is set for plaintext, and `envelope` where the row is one; `opener` where its key was there.
    """

    row: StoredRow
    outcome: str
    kid: str | None = None
    timestamp: int | None = None
    item: dict[str, Any] | None = None
    envelope: Envelope | None = None
    opener: Opener | None = None
