"""What the line of a session's operation says. Most lines are such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from json.encoder import encode_basestring_ascii as _quoted

from ..events.shapes import ItemCount, SessionEvent
from .chain import as_json

__all__ = ["as_text", "session_line"]

#: So many kids and outcomes stand in a line; what is beyond them stands under the kid "other".
_MOST_USES = 256
_PROVEN = ("sealed", "ok", "expired")


# Both are written out. The thread that writes wakes for one line and finds nothing of this in the processor's caches:
# then a dict and a walk over it, or `isoformat` with a time zone, take as long as all else of a line.


def as_text(at: datetime) -> str:
    """A moment in UTC, always with microseconds."""
    if at.tzinfo is not timezone.utc:
        at = at.astimezone(timezone.utc)
    return f"{at.year:04}-{at.month:02}-{at.day:02}T{at.hour:02}:{at.minute:02}:{at.second:02}.{at.microsecond:06}Z"


def session_line(event: SessionEvent, session: str | None) -> str:
    """Its fields as JSON. What there is nothing to be said of is left out."""
    uses = ""
    for kid, outcome, items in event.uses if len(event.uses) <= _MOST_USES else _shown(event.uses):
        named = "null" if kid is None else _quoted(kid)
        uses = f'{uses or "["}{uses and ","}{{"kid":{named},"outcome":{_quoted(outcome)},"items":{items}}}'
    return "".join(
        (
            f'{{"event":"session","at":"{as_text(event.at)}","sequence":{event.sequence}',
            f',"operation":{_quoted(event.operation)}',
            "" if session is None else f',"session":{_quoted(session)}',
            f',"store":{_quoted(event.store)}',
            uses and f',"uses":{uses}]',
            f',"refused":{event.refused}',
            "" if event.removed is None else f',"removed":{event.removed}',
            f',"findings":{as_json([one._asdict() for one in event.findings])}' if event.findings else "",
            "" if event.error is None else f',"error":{_quoted(event.error)}',
            f',"took_s":{event.took_s:.6f}',
            f',"context":{as_json(dict(event.context))}' if event.context else "",
            "}",
        )
    )


def _shown(uses: Sequence[ItemCount]) -> Sequence[ItemCount]:
    """By kid and outcome. Whoever writes to the store can make up kids, and what was proven comes before those."""
    uses = sorted(uses, key=lambda use: use.outcome not in _PROVEN)
    others: Counter[str] = Counter()
    for use in uses[_MOST_USES:]:
        others[use.outcome] += use.items
    return [*uses[:_MOST_USES], *(ItemCount("other", outcome, items) for outcome, items in others.items())]
