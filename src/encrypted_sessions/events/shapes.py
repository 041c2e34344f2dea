"""What is told: one object for each operation of a session, and for the start and the end of a keyset's command.

That of a run of maintenance is `maintenance.run_event`. No event holds a key, an item or an error's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from ..core.outcomes import Finding

__all__ = ["ItemCount", "KeysetEvent", "Phase", "SessionEvent"]

Phase = Literal["start", "end"]


class ItemCount(NamedTuple):
    """How many items one operation sealed under a key, or found to be one thing.

    Attributes:
        kid: The key: that which sealed, or which a stored row names. None for plaintext, and for a row that names
            none, or something that is no kid.
        outcome: "sealed", or what the rows turned out to be, such as "ok" or "unauthentic".
        items: How many.
    """

    kid: str | None
    outcome: str
    items: int


class SessionEvent(NamedTuple):
    """What one call of a session did, told once after its end: also where it failed, or was cancelled.

    Attributes:
        at: When it was told, in UTC.
        sequence: Its number in this process, from 1: one count for the events of sessions, runs and keysets.
        operation: The method's name.
        session: The session's id.
        store: The class of the session that stores.
        uses: What was sealed, opened and judged, by kid and outcome. More may be judged than is returned, and
            less where the call failed.
        refused: How many rows could not be read, of those that were judged: as `UnreadableItemsError` counts them.
        removed: How many rows were removed. None where the store does not say, or where it is in doubt.
        findings: Up to 20 of the rows that were not returned, as `UnreadableItemsError` has them.
        error: The name of the class of what was raised; None where nothing was.
        took_s: Seconds from the call to its end.
        context: What `audit_context` said.
    """

    at: datetime
    sequence: int
    operation: str
    session: str
    store: str
    uses: tuple[ItemCount, ...]
    refused: int
    removed: int | None
    findings: tuple[Finding, ...]
    error: str | None
    took_s: float
    context: Mapping[str, str]


class KeysetEvent(NamedTuple):
    """The start, or the end, of a command `encrypted-sessions keys …`. Both carry one `sequence`.

    Attributes:
        at: When it was told, in UTC.
        sequence: Its number in this process.
        command: The command's name, such as "rotate".
        phase: "start" or "end".
        place: What wraps the keys, and where they lie.
        key: The name of the key that it is about; at the end also one that was made. None where it is about all.
        reason: What was given as reason; None for none.
        error: The name of the class of what went wrong; None where nothing did, and at the start.
        took_s: Seconds from the start; 0 at the start.
        context: What `audit_context` said.
    """

    at: datetime
    sequence: int
    command: str
    phase: Phase
    place: str
    key: str | None
    reason: str | None
    error: str | None
    took_s: float
    context: Mapping[str, str]
