"""Who follows a store: servers that have its rows as they were a moment, or a month, ago.

A store tells facts, by positions in the log that its replicas replay. Whether one of them is behind,
and how long to wait for it, is decided in maintenance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Replica", "Replication"]


class Replica(NamedTuple):
    """A server that may take the store's place, as far as the store's own server knows it."""

    #: By what it is known again when one looks once more.
    id: str
    #: What it is, in words for a sentence: "the standby node-2 at 10.0.0.7".
    name: str
    #: Up to where it has replayed the log. None where it does not replay now, or nobody knows how far it is.
    position: int | None
    #: What to do where it stays behind, as a sentence without a full stop.
    advice: str
    #: False where no waiting makes it have what it lacks.
    may_catch_up: bool = True


class Replication(NamedTuple):
    """A store's log, and those who follow it."""

    #: Which log it is: another one once another server has taken over. Empty where nobody may know.
    log: str = ""
    #: Where it ends, with all that was committed until now in front of it.
    end: int = 0
    #: Those that can be seen: connected ones, and those that something is kept for.
    replicas: Sequence[Replica] = ()
    #: What could not be seen, and what would help, as a sentence without a full stop.
    unseen: str | None = None
