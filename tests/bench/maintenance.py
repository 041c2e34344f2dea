"""Work over a whole store: how many rows each command does in a second, and how much memory it takes.

The floor is what no program can beat that opens and seals each row and then writes it: the time of
Fernet's own `decrypt` and `encrypt_at_time` with derived keys, and that of the store's best way to
replace 500 rows only if they are unchanged. Nothing is read and nothing is parsed for it.
"""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.fernet import Fernet
from measuring import Samples, Table, Taken
from subjects import message

from encrypted_sessions import Key, KeyRing
from encrypted_sessions.core.envelope import pack_row
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher, derive_session_key
from encrypted_sessions.maintenance import discard, encrypt_plaintext, erase, inventory, purge, reencrypt, verify
from encrypted_sessions.stores.whole import StoredRow
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.servers import PostgresServer, ProgramMissingError, RedisServer
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import all_rows, make_tables, whole
from keyproviders import decode_key_text

_KINDS = ("sqlite", "sqlalchemy-postgres", "redis")
_SIZES = (("200 B", 200), ("1 KiB", 1024))
_PER_SESSION = 100
_LONG = 5_000
_BATCH = 500

_OURS, _FLOOR, _OPENING, _WRITING = "reencrypt", "floor", "Fernet", "compare-and-swap"
_ONE, _TWO = "one process", "two processes"

#: At least so much of the floor's rate, and of one process's rate with two.
_TARGET = 0.7
_TARGET_OF_TWO = 1.4
#: At most so much of the peak memory over a tenth of the rows.
_TARGET_OF_MEMORY = 1.2


async def measure(*, quick: bool) -> Table:
    """`reencrypt` beside the floor, and in two processes beside one."""
    count, rounds = (4_000, 2) if quick else (20_000, 7)
    table = Table(
        f"Reencrypting a store of {count:,} rows",
        ("store, items", "Fernet", "compare-and-swap", "reencrypt", "of the floor", "target", "met", "in CPU time"),
        f"{count:,} items in sessions of {_PER_SESSION}, sealed again from one key to another and back. Fernet and"
        " compare-and-swap give the floor, 1/(1/c + 1/u): Fernet's own decrypt and encrypt_at_time with derived"
        f" keys, and {_BATCH} rows replaced only if unchanged (SQLite: executemany; PostgreSQL: UPDATE ... FROM"
        " unnest; Redis: one Lua script for each part of a list, with hiredis). Rows per second; medians of"
        " alternating rounds. PostgreSQL has its default settings; its table is vacuumed before each round, as"
        " autovacuum would have done. CPU time is that of this process, without the servers.",
    )
    async for place in places(table):
        for name, size in _SIZES:
            keys = [Key.generate("one"), Key.generate("two")]
            there = place._replace(name=f"r{size}").place()
            samples = await _against_the_floor(there, keys, size, count, rounds)
            await drop(there)
            ratio = 1 / samples.ratio(_OURS, _FLOOR)
            label = f"{place.kind}, {name}"
            table.add(
                label,
                *(_rate(count, samples.median(subject)) for subject in (_OPENING, _WRITING, _OURS)),
                f"{ratio:.2f}",
                *table.judged(label, _TARGET / ratio, 1.0, f"{_TARGET} or more"),
                f"{1 / samples.cpu_ratio(_OURS, _FLOOR):.2f}",
            )
    return table


async def measure_two(*, quick: bool) -> Table:
    """Two processes that do the same work at once."""
    count, rounds = (4_000, 1) if quick else (100_000, 5)
    table = Table(
        f"Reencrypting a store of {count:,} rows in two processes at once",
        (
            "store, items",
            _ONE,
            _TWO,
            "of the floor: one",
            "two",
            "target",
            "met",
            "two / one",
            "target",
            "met",
            "in CPU time",
            "computing alone",
        ),
        "Rows per second from the start signal to the end of the last process; medians of alternating rounds. A"
        " table in PostgreSQL is vacuumed before each round, as autovacuum would have done. The floor is that of"
        " the table above, for one process, measured in the same rounds; two processes should reach"
        f" {_TARGET_OF_TWO} times {_TARGET} of it. Two / one depends on the cores: one process, which computes"
        " while the store writes, and its server keep more than one of them busy. The last but one column divides the"
        " time of one process by that of the busier of two: what two could reach with enough cores. The last column is"
        " the gain of two processes that only compute, in the same rounds. Redis has no target, because its single"
        " thread does everything that is not cryptography.",
    )

    def judged(label: str, ratio: float, target: float) -> tuple[str, str, str]:
        words = f"{target:.2g} or more"
        met = ("", "") if label.startswith("redis") else table.judged(label, target / ratio, 1.0, words)
        return f"{ratio:.2f}", *met

    async for place in places(table):
        for name, size in _SIZES:
            keys = [Key.generate("one"), Key.generate("two")]
            there = place._replace(name=f"t{size}").place()
            await _fill(there, keys[0], size, count)
            samples = Samples()
            computing = []
            async with _swapper(there) as swap:
                for number in range(rounds):
                    for subject in (_ONE, _TWO, _FLOOR) if number % 2 else (_FLOOR, _TWO, _ONE):
                        keys.reverse()
                        await _tidy(there)
                        if subject == _FLOOR:
                            samples.add(subject, (await _at_the_floor(there, keys, swap))[_FLOOR])
                        else:
                            samples.add(subject, _in_processes(there, keys, 1 if subject == _ONE else 2, count))
                    computing.append(2 * _computing(1) / _computing(2))
            await drop(there)
            label = f"{place.kind}, {name}"
            table.add(
                label,
                *(_rate(count, samples.median(subject)) for subject in (_ONE, _TWO)),
                f"{samples.ratio(_FLOOR, _ONE):.2f}",
                *judged(f"{label}, of the floor", samples.ratio(_FLOOR, _TWO), _TARGET * _TARGET_OF_TWO),
                *judged(f"{label}, two / one", samples.ratio(_ONE, _TWO), _TARGET_OF_TWO),
                f"{samples.cpu_ratio(_ONE, _TWO):.2f}",
                f"{statistics.median(computing):.2f}",
            )
    return table


async def measure_commands(*, quick: bool) -> Table:
    """Every command once over a store where it finds work in each row."""
    count, rounds = (2_000, 1) if quick else (10_000, 3)
    table = Table(
        f"Commands over a store of {count:,} rows",
        ("command", *(f"{kind}, {name}" for kind in _KINDS for name, _ in _SIZES)),
        "Rows per second, and in brackets their ratio to the floor of reencrypt; medians. Each command finds work"
        " in every row: `purge` finds expired rows, `encrypt` and `discard` find plaintext. `inventory` runs"
        " without and with keys.",
    )
    cells: dict[str, list[str]] = {command: [] for command in _COMMANDS}
    async for place in places(table):
        for _, size in _SIZES:
            keys = [Key.generate("one"), Key.generate("two")]
            there = place._replace(name=f"c{size}").place()
            samples = await _against_the_floor(there, keys, size, count, rounds)
            floor = samples.median(_FLOOR)
            for command, run in _COMMANDS.items():
                taken = [
                    await _timed(run, place._replace(name=f"{command[:4]}{size}{n}").place(), size, count)
                    for n in range(rounds)
                ]
                took = statistics.median(taken)
                cells[command].append(f"{_rate(count, took)} ({floor / took:.2f})")
    for command, found in cells.items():
        table.add(command, *found)
    return table


async def measure_memory(*, quick: bool) -> Table:
    """The peak of `reencrypt` over many rows beside that over a tenth of them."""
    few, many = (5_000, 50_000) if quick else (100_000, 1_000_000)
    table = Table(
        "Peak memory of reencrypt",
        ("store", f"{few:,} rows", f"{many:,} rows", "ratio", "target", "met"),
        f"Largest resident size of a process of its own (Linux: VmHWM), items of 200 B in sessions of {_LONG:,}.",
    )
    async for place in places(table):
        keys = [Key.generate("one"), Key.generate("two")]
        peaks = []
        for count in (few, many):
            there = place._replace(name=f"m{count}").place()
            await _fill_with_many(there, keys[0], count)
            peaks.append(_peak(there, keys[::-1], count))
            await drop(there)
        ratio = peaks[1] / peaks[0]
        table.add(
            place.kind,
            *(f"{peak / 2**20:,.0f} MiB" for peak in peaks),
            f"{ratio:.2f}",
            *table.judged(place.kind, ratio, _TARGET_OF_MEMORY),
        )
    return table


# -- Places ---------------------------------------------------------------------------------------


class _Where(NamedTuple):
    """A folder or a server, in which a place gets a name of its own."""

    kind: str
    where: str
    name: str = ""

    def place(self) -> StoreLocation:
        where = f"{self.where}/{self.name}.db" if self.kind == "sqlite" else self.where
        return StoreLocation(self.kind, where, f"bench{self.name}")


async def places(table: Table) -> AsyncIterator[_Where]:
    """One of each kind that this machine has a server for."""
    for kind in _KINDS:
        with contextlib.ExitStack() as stack:
            if kind == "sqlite":
                yield _Where(kind, stack.enter_context(tempfile.TemporaryDirectory()))
                continue
            try:
                server = stack.enter_context(
                    PostgresServer(as_shipped=True) if kind == "sqlalchemy-postgres" else RedisServer()
                )
            except ProgramMissingError as missing:
                table.note += f" Not on {kind}: {missing}."
                continue
            yield _Where(kind, server.url)


async def _fill(place: StoreLocation, key: Key | None, size: int, count: int, *, age: int = 0) -> None:
    """Sessions of items that are sealed with a key, or plain."""
    await make_tables(place)
    stamp = int(time.time()) - age
    for start in range(0, count, _PER_SESSION):
        session_id = f"session-{start // _PER_SESSION}"
        cipher = None if key is None else FernetCipher.derive(key.secret, session_id)
        rows = []
        for number in range(start, start + _PER_SESSION):
            item = {**message(size - 20), "id": f"{number:09}"}
            rows.append(json.dumps(item) if not (key and cipher) else pack_row(key.kid, cipher.seal(item, stamp)))
        await write_rows(place, session_id, rows)


async def _fill_with_many(place: StoreLocation, key: Key, count: int) -> None:
    """The same item again and again in long sessions: what fills a large store soon."""
    await make_tables(place)
    for number in range(count // _LONG):
        session_id = f"session-{number}"
        token = FernetCipher.derive(key.secret, session_id).seal(message(200), int(time.time()))
        await write_rows(place, session_id, [pack_row(key.kid, token)] * _LONG)


async def drop(place: StoreLocation) -> None:
    if place.in_sqlite:
        for file in Path(place.where).parent.glob(f"{Path(place.where).name}*"):
            file.unlink()
    elif place.kind == "redis":
        import redis

        with redis.Redis.from_url(place.where) as client:
            client.flushdb()
    else:
        await _tell_postgres(place, f"DROP TABLE {place.messages_table}, {place.sessions_table}")


async def _tidy(place: StoreLocation) -> None:
    """Clear away what earlier rounds left behind: they change the same rows again and again, which nobody does."""
    if place.kind == "sqlalchemy-postgres":
        await _tell_postgres(place, f"VACUUM {place.messages_table}")


async def _tell_postgres(place: StoreLocation, statement: str) -> None:
    import asyncpg  # type: ignore[import-untyped]  # it ships no types

    connection = await asyncpg.connect(place.where.replace("+asyncpg", ""))
    await connection.execute(statement)
    await connection.close()


class _Keys:
    """A place with two keys, the first of which is active."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    def active(self) -> Key:
        return self._keys[0]

    def get(self, name: str) -> Key:
        return next(key for key in self._keys if key.name == name)


# -- The floor ------------------------------------------------------------------------------------


async def _against_the_floor(place: StoreLocation, keys: list[Key], size: int, count: int, rounds: int) -> Samples:
    """What the floor and `reencrypt` took, in turn, from one key to the other and back."""
    await _fill(place, keys[0], size, count)
    samples = Samples()
    async with _swapper(place) as swap:
        for number in range(rounds + 1):
            for subject in (_OURS, _FLOOR) if number % 2 else (_FLOOR, _OURS):
                keys.reverse()
                await _tidy(place)
                if subject == _OURS:
                    taken = {_OURS: await _reencrypted(place, keys, count)}
                else:
                    taken = await _at_the_floor(place, keys, swap)
                if number:  # the first round opens connections
                    for name, took in taken.items():
                        samples.add(name, took)
    return samples


async def _reencrypted(place: StoreLocation, keys: Sequence[Key], count: int) -> Taken:
    async with KeyRing(_Keys(keys)) as ring, whole(place) as store:
        start = Taken.since()
        report = await reencrypt(store, ring, batch=_BATCH)
        taken = Taken.since(start)
    assert report.changed == count, report
    return taken


async def _at_the_floor(place: StoreLocation, keys: Sequence[Key], swap: Swap) -> dict[str, Taken]:
    new, old = keys
    async with whole(place) as store:
        rows = sorted(await all_rows(store, 5_000), key=lambda row: row.id)
    sealed = [json.loads(row.data)["payload"] for row in rows]
    sessions = {row.session_id for row in rows}
    old_of, new_of = ({session: _fernet(key, session) for session in sessions} for key in (old, new))
    pairs = [(old_of[row.session_id], new_of[row.session_id], token) for row, token in zip(rows, sealed, strict=True)]
    now = int(time.time())
    start = Taken.since()
    tokens = [seal.encrypt_at_time(open_.decrypt(token), now) for open_, seal, token in pairs]
    opening = Taken.since(start)
    envelopes = [{"__enc__": 1, "v": 1, "kid": new.kid, "payload": token.decode()} for token in tokens]
    changes = [(row, json.dumps(envelope)) for row, envelope in zip(rows, envelopes, strict=True)]
    start = Taken.since()
    for first in range(0, len(changes), _BATCH):
        await swap(changes[first : first + _BATCH])
    writing = Taken.since(start)
    floor = Taken(opening.wall + writing.wall, opening.cpu + writing.cpu)
    return {_OPENING: opening, _WRITING: writing, _FLOOR: floor}


def _fernet(key: Key, session_id: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(derive_session_key(key.secret, session_id)))


Changes = Sequence[tuple[StoredRow, str]]
Swap = Callable[[Changes], Awaitable[None]]

_SWAP = """
local there = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])
local changed = 0
for i = 3, #ARGV, 3 do
  if there[ARGV[i] - ARGV[1] + 1] == ARGV[i + 1] then
    redis.call('LSET', KEYS[1], ARGV[i], ARGV[i + 2])
    changed = changed + 1
  end
end
return changed
"""


@contextlib.asynccontextmanager
async def _swapper(place: StoreLocation) -> AsyncIterator[Swap]:
    """The store's best way to replace rows only if they are unchanged."""
    if place.in_sqlite:
        with contextlib.closing(sqlite3.connect(place.where, isolation_level=None)) as connection:
            statement = f"UPDATE {place.messages_table} SET message_data = ? WHERE id = ? AND message_data = ?"

            async def in_sqlite(changes: Changes) -> None:
                values = [(new, row.id, str(row.data, "utf-8")) for row, new in changes if isinstance(row.data, bytes)]
                connection.execute("BEGIN IMMEDIATE")
                assert connection.executemany(statement, values).rowcount == len(changes)
                connection.execute("COMMIT")

            yield in_sqlite
    elif place.kind == "redis":
        import redis

        with redis.Redis.from_url(place.where) as client:
            script = client.register_script(_SWAP)
            client.script_load(_SWAP)

            async def in_redis(changes: Changes) -> None:
                pipeline = client.pipeline(transaction=False)
                lists: dict[bytes, list[Any]] = {}
                for row, new in changes:
                    lists.setdefault(row.id.key, []).extend((row.id.offset, row.data, new))
                for key, values in lists.items():
                    pipeline.evalsha(script.sha, 1, key, min(values[::3]), max(values[::3]), *values)
                assert sum(pipeline.execute()) == len(changes)

            yield in_redis
    else:
        import asyncpg

        postgres = await asyncpg.connect(place.where.replace("+asyncpg", ""))
        statement = (
            f"UPDATE {place.messages_table} m SET message_data = c.new"
            " FROM (SELECT unnest($1::int[]) AS id, unnest($2::text[]) AS old, unnest($3::text[]) AS new) AS c"
            " WHERE m.id = c.id AND m.message_data = c.old"
        )

        async def in_postgres(changes: Changes) -> None:
            ids, old, new = (
                [row.id for row, _ in changes],
                [row.data for row, _ in changes],
                [new for _, new in changes],
            )
            assert await postgres.execute(statement, ids, old, new) == f"UPDATE {len(changes)}"

        yield in_postgres
        await postgres.close()


# -- Commands -------------------------------------------------------------------------------------

_Run = Callable[[Any, KeyRing, list[str], Path], Awaitable[Any]]


class _Command(NamedTuple):
    run: _Run
    sealed: bool = True
    age: int = 0


def _erase(store: Any, _ring: KeyRing, sessions: list[str], _folder: Path) -> Awaitable[Any]:
    return erase(store, sessions)


_COMMANDS: dict[str, _Command] = {
    "inventory, no keys": _Command(lambda store, ring, sessions, folder: inventory(store)),
    "inventory": _Command(lambda store, ring, sessions, folder: inventory(store, ring)),
    "verify": _Command(lambda store, ring, sessions, folder: verify(store, ring)),
    "purge": _Command(lambda store, ring, sessions, folder: purge(store, ring, ttl=600), age=10_000),
    "encrypt": _Command(lambda store, ring, sessions, folder: encrypt_plaintext(store, ring), sealed=False),
    "discard": _Command(
        lambda store, ring, sessions, folder: discard(store, ring, outcome="plaintext", export=folder / "export"),
        sealed=False,
    ),
    "erase": _Command(_erase),
}


async def _timed(command: _Command, place: StoreLocation, size: int, count: int) -> float:
    key = Key.generate("one")
    await _fill(place, key if command.sealed else None, size, count, age=command.age)
    sessions = [f"session-{number}" for number in range(count // _PER_SESSION)]
    with tempfile.TemporaryDirectory() as folder:
        async with KeyRing(_Keys([key])) as ring, whole(place) as store:
            start = Taken.since()
            await command.run(store, ring, sessions, Path(folder))
            taken = Taken.since(start)
    await drop(place)
    return taken.wall


# -- Processes of their own -----------------------------------------------------------------------


def _in_processes(place: StoreLocation, keys: Sequence[Key], processes: int, count: int) -> Taken:
    """Seconds until all are done, from the word to begin, and the most processor time that one took."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_process(place, keys)) for _ in range(processes)]
        for one in started:
            assert _answer(one) == "ready"
        start = time.perf_counter()
        for one in started:
            _tell(one, "go")
        done = [_Done(*json.loads(_answer(one))) for one in started]
        took = time.perf_counter() - start
    assert sum(one.changed for one in done) == count, done
    return Taken(took, max(one.cpu_s for one in done))


def _computing(processes: int) -> float:
    """Seconds that so many processes take which only compute."""
    start = time.perf_counter()
    started = [subprocess.Popen([sys.executable, "-c", "for _ in range(20_000_000): pass"]) for _ in range(processes)]
    for one in started:
        one.wait()
    return time.perf_counter() - start


def _peak(place: StoreLocation, keys: Sequence[Key], count: int) -> int:
    with _process(place, keys) as one:
        assert _answer(one) == "ready"
        _tell(one, "go")
        done = _Done(*json.loads(_answer(one)))
    assert done.changed == count, done
    return done.peak


class _Done(NamedTuple):
    """What a process says at its end."""

    changed: int
    cpu_s: float
    peak: int


@contextlib.contextmanager
def _process(place: StoreLocation, keys: Sequence[Key]) -> Iterator[subprocess.Popen[str]]:
    order = {
        "place": [place.kind, place.where, place.prefix],
        "keys": [[key.name, key.reveal_base64()] for key in keys],
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            _tell(process, json.dumps(order))
            yield process
        except BaseException:  # Ctrl-C too leaves no process behind
            process.kill()
            raise


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def _work() -> None:
    """Reencrypt a store when told to; say how many rows were changed, and the peak of memory."""
    order = json.loads(sys.stdin.readline())
    place = StoreLocation(*order["place"])
    keys = [Key(name, decode_key_text(text)) for name, text in order["keys"]]
    async with KeyRing(_Keys(keys)) as ring, whole(place) as store:
        _say("ready")
        sys.stdin.readline()
        start = time.process_time()
        report = await reencrypt(store, ring, batch=_BATCH)
        cpu_s = time.process_time() - start
    _say(json.dumps(_Done(report.changed, cpu_s, _peak_of_this_process())))


def _peak_of_this_process() -> int:
    """In bytes; 0 where there is no telling."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f}/s"


if __name__ == "__main__":
    asyncio.run(_work())
