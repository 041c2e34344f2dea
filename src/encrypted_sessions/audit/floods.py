"""Refusals that come by the thousand: the first of each kind is a line at once, further ones are one line a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .lines import Line
from .session_lines import as_text

if TYPE_CHECKING:
    from ..events.shapes import SessionEvent

__all__ = ["FOLD_S", "MOST_KINDS", "Floods"]

#: Seconds between two lines of the same kind.
FOLD_S = 60.0
#: So many kinds are told apart at once.
MOST_KINDS = 1_000

#: What the first of a kind says of itself alone.
_OF_THE_FIRST = ("sequence", "took_s", "findings", "context")


class _Repeated:
    """Those of one kind that came since its last line."""

    __slots__ = ("context", "count", "event", "since")

    def __init__(self, event: SessionEvent) -> None:
        self.event = event
        self.count = 0
        self.since = event.at
        self.context: Mapping[str, str] = {}

    def add(self, event: SessionEvent) -> None:
        if not self.count:
            self.since, self.context = event.at, event.context
        else:  # what was the same each time stays
            self.context = {name: value for name, value in self.context.items() if event.context.get(name) == value}
        self.count += 1
        self.event = event

    def words(self) -> dict[str, Any]:
        """How often, since when, and what all had in common; `at` is the time of the last one."""
        words = {"repeated": self.count, "since": as_text(self.since)}
        return {**words, "context": dict(self.context)} if self.context else words


class Floods:
    """Folds refusals that are equal but for their times. Not to be shared by threads."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Repeated] = {}
        self._others: _Repeated | None = None
        self._outcomes: Counter[str] = Counter()
        self._refused = 0

    def fold(self, event: SessionEvent) -> bool:
        """Keep this one for a line to come; False for one that goes out as it is."""
        kind = (event.session, event.store, event.operation, event.uses, event.refused, event.removed, event.error)
        known = self._kinds.get(kind)
        if known is not None:
            known.add(event)
            return True
        if len(self._kinds) < MOST_KINDS:
            self._kinds[kind] = _Repeated(event)
            return False
        if self._others is None:
            self._others = _Repeated(event)
        self._others.add(event)
        for use in event.uses:
            self._outcomes[use.outcome] += use.items
        self._refused += event.refused
        return True

    def __bool__(self) -> bool:
        """Whether there is something to be told or forgotten."""
        return bool(self._kinds) or self._others is not None

    def flush(self) -> Iterator[Line]:
        """A line for each kind that came again. One that did not is forgotten, so its next is a first one."""
        kinds, self._kinds = self._kinds, {}
        for kind, repeated in kinds.items():
            if repeated.count:
                yield Line(repeated.event, repeated.words(), without=_OF_THE_FIRST)
                self._kinds[kind] = _Repeated(repeated.event)
        if self._others is not None:
            said = {"event": "other", "at": as_text(self._others.event.at), "refused": self._refused}
            yield Line(None, {**said, **self._others.words(), "outcomes": dict(self._outcomes)})
            self._others = None
            self._outcomes.clear()
            self._refused = 0
