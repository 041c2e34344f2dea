"""What a ring could do now, in one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .events import LEVELS

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["RingHealth", "health_of"]


class RingHealth(NamedTuple):
    """What a ring could do now, without a request.

    Attributes:
        can_read: A key is held that may be used to read.
        can_write: The active key may be used to write.
        last_healthy_s: Seconds since the last real answer; None if there was none.
        held: The public ids of the keys that are held.
        counts: How many times things happened since the ring was made (or since the fork): `calls` to the providers,
            each kind of event, and `waiting`, the calls without an answer yet.
        stuck: Calls that take longer than the deadline, in words.
        active_kid: The public id of the active key; None if none is held.
        active_age_s: Seconds since the place of keys last confirmed that it is active; None if none is held.
        writes_for_s: How long writing continues if no answer comes from now on.
        reads_for_s: How long reading continues in that case, with the key that can be used longest.
        state: `ok`; `degraded`, if the answer about the active key is overdue or was a denial, and writing continues;
            `read_only`, if writing has ended; `down`, if reading has ended too, or no key was fetched yet. A ring
            that was not used for six hours does not ask any more: it goes from one state to the next, even if the
            place of keys works, until it is used again.
    """

    can_read: bool
    can_write: bool
    last_healthy_s: float | None
    held: tuple[str, ...]
    counts: dict[str, int]
    stuck: tuple[str, ...]
    active_kid: str | None = None
    active_age_s: float | None = None
    writes_for_s: float = 0.0
    reads_for_s: float = 0.0
    state: str = "down"

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, for JSON."""
        return {**self._asdict(), "held": list(self.held), "stuck": list(self.stuck), "counts": dict(self.counts)}


def health_of(engine: Engine) -> RingHealth:
    """The health of a ring's engine. No I/O, and no waiting."""
    with engine.lock:
        now, cache, calls = engine.clock(), engine.cache, engine.calls
        writes_for_s, reads_for_s = cache.writes_for(now), cache.reads_for(now)
        if not reads_for_s:
            state = "down"
        elif not writes_for_s:
            state = "read_only"
        else:
            state = "degraded" if cache.is_overdue(now) else "ok"
        return RingHealth(
            can_read=cache.can_read(now),
            can_write=cache.writable(now) is not None,
            last_healthy_s=None if cache.healthy_at is None else now - cache.healthy_at,
            held=cache.kids,
            counts={"calls": 0, **dict.fromkeys(LEVELS, 0), **engine.counts, "waiting": len(calls)},
            stuck=tuple(str(call) for call in calls.running if call.age_s() > engine.deadline_s),
            active_kid=cache.active_kid,
            active_age_s=cache.active_age(now),
            writes_for_s=writes_for_s,
            reads_for_s=reads_for_s,
            state=state,
        )
