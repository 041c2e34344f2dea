"""What a run waits for before it says that all is well: that every server which follows the store's has the same.

A replica that lags has rows as they were before the run. Promoted, it brings them back, sealed under the keys
that they had. So what has not replayed the end of the store's log is waited for, and then named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..errors import StoreError, StoreUnavailableError
from ..stores.replicas import Replica, Replication
from .interruption import InterruptedRunError, wait
from .reports import ReplicaState
from .run import STAYS_DONE, Run

__all__ = ["ReplicaWatch"]

#: Seconds between two looks, each time twice as many.
_LOOK_AFTER_S, _LOOK_AFTER_AT_MOST_S = 0.05, 1.0


class ReplicaWatch:
    """Who follows the store of a run, from its beginning on: who is gone at its end is no less behind."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._met: dict[str, Replica] = {}
        self._began: Replication | None = None

    async def begin(self) -> None:
        """Note which server this is, and who follows it."""
        if not self._run.settings.dry_run:
            self._began = await self._look()

    async def wait(self) -> None:
        """Wait until each replica has what was written, as long as the run may, and note in the run which has."""
        run = self._run
        if run.settings.dry_run or run.stopped in ("interrupted", "store"):
            return
        try:
            await self._wait()
        except InterruptedRunError:
            run.end("interrupted", f"it was asked to stop while it waited for replicas; {STAYS_DONE}")
        except StoreUnavailableError as error:
            run.end("store", f"{error}; it is not known whether every replica is up to date. {STAYS_DONE.capitalize()}")

    async def _wait(self) -> None:
        run = self._run
        ends = time.monotonic() + run.settings.replica_wait_s
        log_end, pause_s = None, _LOOK_AFTER_S
        while (found := await self._look()) is not None:
            log_end = found.end if log_end is None else log_end
            if not found.log:  # nothing is known but what it says now
                self._met = _by_id(found.replicas)
            run.replicas_unseen = found.unseen
            run.replicas = tuple(self._states(found, log_end))
            if self._is_another_log(found, log_end):
                run.end("store", _taken_over(run.store.location))
                return
            behind = [replica for replica in self._met.values() if not _has(replica, log_end)]
            left_s = ends - time.monotonic()
            if left_s <= 0 or not any(replica.may_catch_up for replica in behind):
                return
            await wait(min(left_s, pause_s), run.settings.stop)
            pause_s = min(pause_s * 2, _LOOK_AFTER_AT_MOST_S)

    async def _look(self) -> Replication | None:
        try:
            found = await self._run.call(self._run.store.replication)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            found = Replication(unseen=str(error))
        if found is not None:
            self._met.update(_by_id(found.replicas))
        return found

    def _is_another_log(self, found: Replication, log_end: int) -> bool:
        """Whether another server answers than at the beginning, or this one has lost what it had."""
        began = self._began
        if began is None or not began.log or not found.log:
            return False
        return found.log != began.log or found.end < max(log_end, began.end)

    def _states(self, found: Replication, log_end: int) -> Iterator[ReplicaState]:
        connected = _by_id(found.replicas)
        for known, replica in self._met.items():
            name, at = replica.name, replica.position
            if _has(replica, log_end):
                yield ReplicaState(name, replayed=True, missing=None, to_do=None)
            else:
                name = name if known in connected else f"{name}, no longer connected"
                missing = None if at is None else log_end - at
                yield ReplicaState(name, replayed=False, missing=missing, to_do=replica.advice)


def _by_id(replicas: Sequence[Replica]) -> dict[str, Replica]:
    """By their ids. Of those that share one, the last is the one furthest behind: if any goes, it counts as that."""
    found: dict[str, Replica] = {}
    for replica in sorted(replicas, key=_position, reverse=True):
        known, number = replica.id, 2
        while known in found:
            known, number = f"{replica.id} ({number})", number + 1
        found[known] = replica
    return found


def _position(replica: Replica) -> int:
    return -1 if replica.position is None else replica.position


def _has(replica: Replica, log_end: int) -> bool:
    return _position(replica) >= log_end


def _taken_over(location: str) -> str:
    return (
        f"another server answers for {location} than at the beginning of the run, or this one has lost data:"
        " some of what was read or changed may be different there. Run it again"
    )
