"""What metrics, spans and their attributes are called. They are documented, and stay as they are."""

from __future__ import annotations

__all__ = [
    "AUDIT_LINES_LOST",
    "BUCKETS_S",
    "CALL_DURATION",
    "CONVERSATION",
    "ERROR",
    "EVENT",
    "ITEMS",
    "KEY_AGE",
    "KID",
    "OPERATION",
    "OPERATION_DURATION",
    "OTHER",
    "OUTCOME",
    "PLACE",
    "QUESTION",
    "RING",
    "RING_ANSWER_AGE",
    "RING_EVENTS",
    "RING_KEYS",
    "RING_STUCK_CALLS",
    "RING_TIME_LEFT",
    "SCHEME",
    "SCOPE",
    "USE",
]

SCOPE = "encrypted_sessions"

OPERATION_DURATION = "encrypted_sessions.operation.duration"
ITEMS = "encrypted_sessions.items"
AUDIT_LINES_LOST = "encrypted_sessions.audit.lines_lost"
CALL_DURATION = "keyproviders.call.duration"
RING_EVENTS = "keyproviders.ring.events"
RING_ANSWER_AGE = "keyproviders.ring.answer.age"
RING_TIME_LEFT = "keyproviders.ring.time_left"
RING_KEYS = "keyproviders.ring.keys"
RING_STUCK_CALLS = "keyproviders.ring.stuck_calls"
KEY_AGE = "keyproviders.key.age"

OPERATION = "encrypted_sessions.operation"
OUTCOME = "encrypted_sessions.outcome"
RING = "keyproviders.ring"
SCHEME = "keyproviders.scheme"
PLACE = "keyproviders.place"
QUESTION = "keyproviders.question"
EVENT = "keyproviders.event"
USE = "keyproviders.use"
KID = "keyproviders.kid"
ERROR = "error.type"
CONVERSATION = "gen_ai.conversation.id"

#: What stands for everything that has no name of its own in a metric.
OTHER = "other"

#: From a row of a warm session to a run over a whole store.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
