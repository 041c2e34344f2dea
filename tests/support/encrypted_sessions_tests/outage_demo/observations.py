"""What the outage demo observes, and the summary at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from keyproviders import CachePolicy

__all__ = ["DEFAULT_POLICY", "POLICY", "Outage", "Turn", "summarize"]

#: The default divided by 100, but for reading: a hundredth of 24 hours would be too long to watch.
POLICY = CachePolicy(fresh_s=3, stale_write_s=9, stale_read_s=13, denied_grace_s=3)
DEFAULT_POLICY = CachePolicy()

#: A turn that begins later than this before the end of writing may be cut off by it.
_A_TURN_S = 1.0


@dataclass
class Turn:
    """One turn of the agent, with times in seconds after the start."""

    at_s: float
    took_s: float
    error: str | None


@dataclass
class Outage:
    """What was seen. Times are in seconds after the start; ages count from the last answer."""

    turns: list[Turn] = field(default_factory=list)
    write_ended_age_s: float | None = None
    """The age of the last answer when writing ended; a turn that begins later may fail."""
    write_ended_s: float = 0.0
    read_ended_age_s: float | None = None
    write_error: str = ""
    read_error: str = ""
    read_while_not_writing: int = 0
    """How often the history was read after writing had ended."""
    back_after_s: float | None = None
    """How long after the new start of the server the first turn was done."""

    @property
    def turns_within(self) -> list[Turn]:
        """The turns that had time enough before writing ended: none of them may fail."""
        return [turn for turn in self.turns if turn.at_s < self.write_ended_s - _A_TURN_S]

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(turn.error is not None for turn in self.turns_within)


def summarize(seen: Outage, say: Callable[[str], None]) -> None:
    """Say what was observed, line by line, beside what the policy promises."""
    within = seen.turns_within
    beyond = [turn for turn in seen.turns if turn.error is not None]
    say("")
    say(f"{'bound':<42} {'default':>8} {'here':>8} {'measured':>10}")
    promised = "goes on after the last answer"
    rows = [
        (f"writing {promised}", DEFAULT_POLICY.stale_write_s, POLICY.stale_write_s, seen.write_ended_age_s),
        (f"reading {promised}", DEFAULT_POLICY.stale_read_s, POLICY.stale_read_s, seen.read_ended_age_s),
    ]
    for what, default, here, measured in rows:
        usual = f"{default / 3600:g} h" if default >= 3600 else f"{default / 60:g} min"
        say(f"{what:<42} {usual:>8} {f'{here:g} s':>8} {'never' if measured is None else f'{measured:.1f} s':>10}")
    say("")
    say(f"Beyond the bound of writing {len(beyond)} turns failed, and said why:")
    say(f"  {seen.write_error}")
    say(f"The history was read {seen.read_while_not_writing} times after that, until reading ended as well:")
    say(f"  {seen.read_error}")
    if seen.back_after_s is not None:
        say(f"With the server back, a turn was done after {seen.back_after_s:.1f} s. Nothing else was started again.")
    say("")
    slowest = max((turn.took_s for turn in within), default=0.0)
    say(
        f"Turns within the bounds: {len(within)}. The slowest took {slowest * 1e3:.0f} ms. Failed turns: {seen.failed}."
    )
