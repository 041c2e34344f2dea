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

_LINE = '{"event":"session","at":"%s","sequence":%d,"operation":%s%s,"store":%s%s,"refused":%d%s%s%s,"took_s":%.6f%s}'


# Both are written out, with as few steps as can be: when an operation ends, nothing of this lies in the processor's
# caches. Then a dict and a walk over it, or `isoformat` with a time zone, take as long as all else of a line.


def as_text(at: datetime) -> str:
    """A moment in UTC, always with microseconds."""
    if at.tzinfo is not timezone.utc:
        at = at.astimezone(timezone.utc)
    fields = (at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % fields  # noqa: UP031 - two thirds of the time


def session_line(event: SessionEvent, session: str | None) -> str:
    """Its fields as JSON. What there is nothing to be said of is left out."""
    at, sequence, operation, _, store, every, refused, removed, findings, error, took_s, context = event
    uses = ""
    for kid, outcome, items in every if len(every) <= _MOST_USES else _shown(every):
        named = "null" if kid is None else _quoted(kid)
        uses = f'{uses},{{"kid":{named},"outcome":{_quoted(outcome)},"items":{items}}}'
    fields = (
        as_text(at),
        sequence,
        _quoted(operation),
        "" if session is None else f',"session":{_quoted(session)}',
        _quoted(store),
        uses and f',"uses":[{uses[1:]}]',
        refused,
        "" if removed is None else f',"removed":{removed}',
        f',"findings":{as_json([one._asdict() for one in findings])}' if findings else "",
        "" if error is None else f',"error":{_quoted(error)}',
        took_s,
        f',"context":{as_json(dict(context))}' if context else "",
    )
    return _LINE % fields


def _shown(uses: Sequence[ItemCount]) -> Sequence[ItemCount]:
    """By kid and outcome. Whoever writes to the store can make up kids, and what was proven comes before those."""
    uses = sorted(uses, key=lambda use: use.outcome not in _PROVEN)
    others: Counter[str] = Counter()
    for use in uses[_MOST_USES:]:
        others[use.outcome] += use.items
    return [*uses[:_MOST_USES], *(ItemCount("other", outcome, items) for outcome, items in others.items())]
