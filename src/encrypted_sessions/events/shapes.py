"""What is told: one object for each operation of a session, and for the start and the end of a keyset's command.

That of a run of maintenance is `maintenance.run_event`. No event holds a key, an item or an error's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from ..core.finding import Finding

__all__ = ["ItemCount", "KeysetEvent", "Phase", "SessionEvent"]

Phase = Literal["start", "end"]


class ItemCount(NamedTuple):
    """How many items one operation sealed under a key, or judged to have one outcome.

    Attributes:
        kid: The key that sealed, or that a stored row names. None for plaintext, and for a row that names no key, or
            something that is not a kid.
        outcome: "sealed", or the outcome of the rows, such as "ok" or "unauthentic".
        items: How many.
    """

    kid: str | None
    outcome: str
    items: int


class SessionEvent(NamedTuple):
    """What one call of a session did, reported once after its end, also if it failed or was cancelled.

    Attributes:
        at: When it was reported, in UTC.
        sequence: Its number in this process, from 1: events of sessions, runs and keysets are counted together.
        operation: The method's name.
        session: The session's id.
        store: The class of the session that stores the items.
        uses: What was sealed, opened and judged, by kid and outcome. More items may be judged than returned, and
            fewer if the call failed.
        refused: How many of the judged rows could not be read, as `UnreadableItemsError` counts them.
        removed: How many rows were removed. None if the store does not say, or if it is not certain.
        findings: Up to 20 of the rows that were not returned, as in `UnreadableItemsError`.
        error: The class name of the error that was raised; None if there was none.
        took_s: Seconds from the call to its end.
        context: The values of `audit_context`.
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
    """The start, or the end, of a command `encrypted-sessions keys …`, or of a change by `KeysetManager`.

    Both carry one `sequence`.

    Attributes:
        at: When it was reported, in UTC.
        sequence: Its number in this process.
        command: The name of the command, or of the method, such as "rotate".
        phase: "start" or "end".
        place: What wraps the keys, and where they are stored.
        key: The name of the key that it is about; at the end also that of a new key. None if it is about all keys.
        reason: The reason that was given, or None.
        error: The class name of the error; None if there was none, and at the start.
        took_s: Seconds from the start; 0 at the start.
        context: The values of `audit_context`.
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
