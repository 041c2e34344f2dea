"""What hooks get when something happens to a ring's keys. Imported when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["KeyEvent"]


class KeyEvent(NamedTuple):
    """One thing that happened to a ring's keys. It holds no secret.

    `what` is one of

    - `fetched`: a key that was not held was fetched,
    - `refreshed`: the place confirmed a key that was held,
    - `failed`: the place of keys could not answer, or has no such key,
    - `served stale`: the active key is used although it is no longer fresh, because the place does not answer;
      reported once until it answers again,
    - `denied`: the place refused access, which it may or may not have allowed before,
    - `replaced`: the active key's name belonged to another key before: somebody replaced a key under the same name,
    - `dropped`: a key is no longer held,
    - `degraded`: an answer is overdue, and writing goes on without it,
    - `write_ended`: writing had to end because no answer came, or the active key was taken away,
    - `recovered`: after one of these two, the place says again which key is active,
    - `active_changed`: a different key is active now.

    The ring's own timer reports the last four, whether the ring is used or not. If one of them and another event
    report the same thing, `on_event` gets both, and the log has one record.

    Attributes:
        what: What happened, as above.
        place: Where the keys come from.
        message: What happened, in words.
        kid: The key that it is about; None if the question was which key is active, or if it is about all keys.
        error: The name of the error's class, if there was an error.
        seconds_left: Seconds until the next loss if no answer comes: first writing ends, then reading. For `denied`,
            and for a failure about an older key, until that key is dropped. None if nothing is about to end.
        from_kid: The key that was active before, of `active_changed`.
        to_kid: The key that is active now, of `active_changed`.
        at: When it was reported, in UTC.
        took_s: Seconds from the first attempt of a call to its answer, on the first event about that call; None on
            all others.
        ring: What the ring is called: its `name`, or its place.
    """

    what: str
    place: str
    message: str
    kid: str | None = None
    error: str | None = None
    seconds_left: float | None = None
    from_kid: str | None = None
    to_kid: str | None = None
    at: datetime | None = None
    took_s: float | None = None
    ring: str | None = None
