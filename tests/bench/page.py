"""`inventory --html`: what the page costs beside the inventory, what the ages on it cost, and how large it is."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from measuring import Samples, Table, Taken, in_turn
from subjects import message

from encrypted_sessions import Key, KeyRing
from encrypted_sessions.cli.page_file import PageFile
from encrypted_sessions.core.envelope import pack_row
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions.maintenance import aggregation, inventory
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import make_tables, whole

_SIZE = 200
_DAY_S = 86_400
_DAYS, _TTL_DAYS = 120, 40
#: The store is compared in so many parts, each of which has rows of every day and of every key.
_PARTS = 10

_AGES, _BEFORE = "with ages", "before"

#: At most so much of the processor time that it took without.
_TARGET = 1.05
_TARGET_OF_SIZE = 200 * 1024


async def measure(*, quick: bool) -> Table:
    """The page of stores with few keys and with many."""
    sessions, rows = (200, 250) if quick else (2_000, 500)
    table = Table(
        f"The inventory of {sessions * rows:,} rows as a page",
        (
            "keys, rows read as",
            "with `--html`",
            "target",
            "met",
            "with ages",
            "target",
            "met",
            "size of the page",
            "target",
            "met",
        ),
        f"SQLite, {sessions:,} sessions of {rows} items of {_SIZE} B, sealed over {_DAYS} days by one key after the"
        f' other; the ttl is {_TTL_DAYS} days. Ratios in processor time. "with `--html`": the'
        " page is made after the run and from its report, so one run over all rows gives the time without and with it."
        f' "with ages": rows counted by the time of their sealing, beside the same inventory without that; the store in'
        f" {_PARTS} parts, with and without in turn, the median of the ratios.",
    )
    for count in (3, 300):
        keys = [Key.generate(f"key-{number:03}") for number in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            place = StoreLocation("sqlite", f"{folder}/page.db", "page")
            await _fill(place, keys, sessions, rows)
            async with KeyRing(_Keys(keys)) as ring:
                await ring.active()
                for way, opened_with in (("sealed rows", ring), ("labels alone", None)):
                    label = f"{count}, {way}"
                    run, page, size = await _with_page(place, opened_with, Path(folder), sessions * rows)
                    ages = await _with_ages(place, opened_with)
                    table.add(
                        label,
                        *_judged(table, f"{label}, with --html", (run.cpu + page.cpu) / run.cpu),
                        *_judged(table, f"{label}, with ages", ages),
                        f"{size / 1024:.0f} KiB",
                        *table.judged(f"{label}, size", size / _TARGET_OF_SIZE, 1.0, f"{_TARGET_OF_SIZE // 1024} KiB"),
                    )
    return table


def _judged(table: Table, label: str, ratio: float) -> tuple[str, ...]:
    return f"{ratio:.3f}", *table.judged(label, ratio, _TARGET)


async def _with_page(place: StoreLocation, ring: KeyRing | None, folder: Path, rows: int) -> tuple[Taken, Taken, int]:
    """What the run took, what the page took, and its bytes."""
    file = folder / "page.html"
    page = PageFile.open(str(file), True)
    async with whole(place) as store:
        start = Taken.since()
        report = await inventory(store, ring, ttl=_TTL_DAYS * _DAY_S)
        run = Taken.since(start)
        start = Taken.since()
        page.write(report)
        taken = Taken.since(start)
    assert report.seen == rows, report
    assert sum(bucket.items for bucket in report.ages) == rows
    return run, taken, file.stat().st_size


async def _with_ages(place: StoreLocation, ring: KeyRing | None) -> float:
    """The processor time with the ages by that without."""
    samples = Samples()
    async with whole(place) as store:
        for part, order in enumerate(in_turn([_AGES, _BEFORE], _PARTS)):
            for name in order:
                with contextlib.nullcontext() if name == _AGES else _without_ages():
                    start = Taken.since()
                    report = await inventory(store, ring, ttl=_TTL_DAYS * _DAY_S, session_prefix=f"{part}-")
                    samples.add(name, Taken.since(start))
                assert bool(report.ages) is (name == _AGES), report.ages
    return samples.cpu_ratio(_AGES, _BEFORE)


@contextlib.contextmanager
def _without_ages() -> Iterator[None]:
    """The counting as it was before rows were counted by age."""

    class Count(aggregation._GroupCount):
        __slots__ = ()

        def add(self, classified: Any, ttl: int | None) -> None:
            row = classified.row
            self.items += 1
            self.size += row.size
            self.sessions.add(row.session_id)
            time = classified.timestamp
            if time is None and row.created_at is not None:
                time = int(row.created_at)
            if time is not None:
                self.oldest = time if self.oldest is None else min(self.oldest, time)
                self.newest = time if self.newest is None else max(self.newest, time)
            self.end = max(self.end, aggregation.end_of(classified.envelope, ttl))

    with mock.patch.object(aggregation, "_GroupCount", Count):
        yield


async def _fill(place: StoreLocation, keys: Sequence[Key], sessions: int, rows: int) -> None:
    """Each session is of one moment: the same row again and again, which nobody notices who opens them."""
    await make_tables(place)
    now = int(time.time())
    for number in range(sessions):
        session_id = f"{number % _PARTS}-{number:05}"
        key = keys[len(keys) * number // sessions]
        stamp = now - _DAYS * _DAY_S + _DAYS * _DAY_S * number // sessions
        token = FernetCipher.derive(key.secret, session_id).seal(message(_SIZE), stamp)
        await write_rows(place, session_id, [pack_row(key.kid, token)] * rows)


class _Keys:
    """A place with all of them; the newest is active."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {key.name: key for key in keys}
        self._active = keys[-1]

    def active(self) -> Key:
        return self._active

    def get(self, name: str) -> Key:
        return self._keys[name]
