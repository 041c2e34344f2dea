"""Commands that are limited to some sessions: what they work on, and what they leave out of sight."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import asyncio
import io
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.maintenance import encrypt_plaintext, inventory, purge, reencrypt, verify
from encrypted_sessions.maintenance.session_ids import read_session_ids
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.maintenance_command import filled, report_of, run
from encrypted_sessions_tests.sealed_rows import TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import fill, make_tables, whole

IDS = ("user-7", "user-7/b", "user-70", "user%", "other")


@pytest.fixture
def sealers(sealer: Sealer) -> Any:
    """A sealer for each session, all with the same keys."""
    found = {}
    for session_id in IDS:
        found[session_id] = Sealer(session_id)
        found[session_id].ring.close()
        found[session_id].active, found[session_id].older = sealer.active, sealer.older
    return found


def old_rows(sealers: dict[str, Sealer]) -> dict[str, list[str]]:
    """In each session one that expired, one under the older key, and one that is plain."""
    return {
        session_id: [
            one.expired(),
            one.row(message("old"), one.older),
            one.of("plaintext", "plain"),
        ]
        for session_id, one in sealers.items()
    }


async def test_only_the_named_sessions_are_worked_on(place: StoreLocation, sealer: Sealer, sealers: dict[str, Sealer]):
    rows = old_rows(sealers)
    await fill(place, rows)
    async with whole(place) as store:
        counted = await inventory(store, sealer.ring, ttl=TTL, sessions=["user-7", "other"])
        assert counted.seen == 6
        assert counted.only == "2 named sessions"
        assert "it cannot be said which keys nothing depends on any more" in counted.conclusion
        checked = await verify(store, sealer.ring, ttl=TTL, sessions=["user-70"])
        assert (checked.found, checked.left) == ({"expired": 1, "ok": 1, "plaintext": 1}, {"plaintext": 1})
        assert (await purge(store, sealer.ring, ttl=TTL, session_prefix="user-7")).changed == 3
        assert (await reencrypt(store, sealer.ring, session_prefix="user%")).changed == 1
        assert (await encrypt_plaintext(store, sealer.ring, sessions=["user-7/b"])).changed == 1
    assert [len(await raw_rows(place, one)) for one in IDS] == [2, 2, 2, 3, 3]
    assert await raw_rows(place, "other") == rows["other"]
    assert await raw_rows(place, "user-7") == rows["user-7"][1:]


async def test_a_session_that_is_not_there_is_not_well(file: StoreLocation, sealer: Sealer):
    await fill(file, {"mine": [sealer.ok("a")], "empty": []})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, sessions=["empty", "nobody"])
        assert (report.ok, report.left, report.seen) == (False, {"sessions_missing": 1}, 0)
        report = await inventory(store, sealer.ring, session_prefix="mine-")
        assert (report.ok, report.left) == (False, {"sessions_missing": 1})
        assert (await inventory(store, sealer.ring, sessions=["empty"])).ok


async def test_rows_of_keys_that_were_not_given_are_others_business(
    file: StoreLocation, sealer: Sealer, sealers: dict[str, Sealer]
):
    tenant = sealers["other"]
    stranger = Sealer("other")
    await fill(file, {"other": [tenant.ok("mine"), stranger.ok("theirs")], "user-7": [stranger.ok("a")]})
    async with whole(file) as store:
        report = await verify(store, sealer.ring, sessions=["other"])
        assert (report.ok, report.left, dict(report.other_keys)) == (True, {}, {stranger.active.kid: 1})
        assert not (await verify(store, sealer.ring)).ok
    stranger.ring.close()


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"session_prefix": ""}, ValueError, "empty"),
        ({"session_prefix": 7}, TypeError, "session_prefix"),
        ({"session_prefix": "a\0"}, ValueError, "NUL"),
        ({"session_prefix": "a", "sessions": ["a"]}, ValueError, "not both"),
        ({"sessions": []}, ValueError, "empty"),
        ({"sessions": "user-7"}, TypeError, "list"),
    ],
)
async def test_what_names_no_sessions_is_refused(
    file: StoreLocation, sealer: Sealer, arguments: dict[str, Any], kind: type[Exception], words: str
):
    await make_tables(file)
    async with whole(file) as store:
        with pytest.raises(kind, match=words):
            await verify(store, sealer.ring, **arguments)


# -- The command ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inventory", "verify", "purge", "reencrypt", "discard", "encrypt"])
def test_each_command_takes_sessions_by_name_prefix_and_file(
    file: StoreLocation, sealer: Sealer, sealers: dict[str, Sealer], command: str, tmp_path: Path
):
    filled(file, old_rows(sealers))
    more = {"purge": ["--ttl", str(TTL)], "discard": ["--outcome", "unauthentic"]}.get(command, [])
    (tmp_path / "ids").write_text('user-7\n\n"user-70"\nuser-7\n', encoding="utf-8")
    for filters, rows in (
        (["--session", "user-7", "--session", "other"], 6),
        (["--session-prefix", "user-7"], 9),
        (["--sessions-from", str(tmp_path / "ids")], 6),
    ):
        report = report_of(run(file, sealer, command, *more, *filters, "--json"))
        assert sum(report["found"].values()) == rows, filters
    assert report["notices"][0] == "1 blank lines and 1 duplicates in the file of sessions were skipped"
    shown = run(file, sealer, command, *more, "--session-prefix", "user-7")
    assert ", sessions whose ids begin with 'user-7'" in " ".join(shown.stdout.partition("\n\n")[0].split())


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (["--session", "a", "--session-prefix", "b"], "not several"),
        (["--session-prefix", ""], "empty"),
        (["--session", ""], "empty"),
        (["--sessions-from", "nowhere"], "cannot be read"),
    ],
)
def test_wrong_filters_are_wrong_use(file: StoreLocation, sealer: Sealer, filters: list[str], words: str):
    filled(file, {"a": [sealer.ok("a")]})
    result = run(file, sealer, "verify", *filters)
    assert (result.exit_code, words in result.stderr) == (2, True), result.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\n\nb\xff\n", "line 3: it is not UTF-8"),
        (b"a\nb\0c\n", "line 2: session_id contains a NUL"),
        (b'a\n"b\n', "line 2: it begins with a double quote"),
        (b'"\\ud800"\n', "line 1: session_id contains a lone surrogate"),
        (b"\n \n", "has no session id"),
        (b"x" * (2**20 + 2), "line 1 is longer"),
    ],
)
def test_a_bad_line_is_named_by_its_number_before_anything_is_done(
    file: StoreLocation, sealer: Sealer, content: bytes, words: str, tmp_path: Path
):
    filled(file, {"a": [sealer.ok("a")]})
    (tmp_path / "ids").write_bytes(content)
    result = run(file, sealer, "erase", "--sessions-from", str(tmp_path / "ids"), "--yes", "--expect", "1")
    assert (result.exit_code, words in " ".join(result.stderr.split())) == (2, True), result.output
    assert len(asyncio.run(raw_rows(file, "a"))) == 1


def test_ids_come_from_stdin_and_as_the_list_of_sessions_prints_them(file: StoreLocation, sealer: Sealer):
    odd = ' "odd"\r 100% '
    filled(file, {odd: ["{}"], "plain ": ["{}"], "third": ["{}"]})
    lines = [json.loads(line) for line in run(file, None, "sessions", "--json").stdout.splitlines()]
    ids = [json.dumps(line["session_id"]) for line in lines if line["event"] == "session"]
    assert len(ids) == 3
    given = "\ufeff" + "\r\n".join([ids[0], "plain ", ""])
    result = run(file, sealer, "inventory", "--sessions-from", "-", "--json", stdin=given)
    assert sum(report_of(result)["found"].values()) == 2, result.output


def test_a_long_file_is_not_held_in_memory():
    lines = b"".join(b"session-%d\n" % (number % 90_000) for number in range(100_000))
    tracemalloc.start()
    ids = read_session_ids(io.BytesIO(lines))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(ids), ids.doubles) == (90_000, 10_000)
    assert "session-89999" in ids
    assert "session-90000" not in ids
    assert sum(1 for _ in ids) == 90_000
    assert peak < 2 * 2**20 < len(lines) + 90_000 * sys.getsizeof("session-12345")


# -- PostgreSQL -------------------------------------------------------------------------------------


async def test_postgresql_finds_sessions_without_reading_all_messages(
    request: pytest.FixtureRequest, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    place = new_place("sqlalchemy-postgres", request)
    await make_tables(place)
    async with stores._postgres(place) as connection:
        await connection.execute(
            f"INSERT INTO {place.sessions_table} (session_id) SELECT 'user-' || n FROM generate_series(1, 20000) AS n"
        )
        await connection.execute(
            f"INSERT INTO {place.messages_table} (session_id, message_data)"
            " SELECT 'user-' || (n % 20000 + 1), '{}' FROM generate_series(1, 60000) AS n"
        )
        await connection.execute(f"ANALYZE {place.messages_table}, {place.sessions_table}")
    plans: list[str] = []
    async with whole(place) as store:
        really = store._connections.fetch  # type: ignore[attr-defined]

        async def explained(statement: Any, **values: Any) -> Any:
            from sqlalchemy import text

            found = await really(text(f"EXPLAIN {statement.text}"), **values)
            plans.append("\n".join(line for (line,) in found))
            return await really(statement, **values)

        monkeypatch.setattr(store, "_fetch", explained)
        report = await inventory(store, session_prefix="user-123")
        named = await inventory(store, sessions=["user-1", "nobody"])
    assert (report.seen, named.seen) == (3 * 111, 3)
    on_messages = [plan for plan in plans if place.messages_table in plan]
    assert len(on_messages) >= 6
    assert [plan for plan in on_messages if f"Seq Scan on {place.messages_table}" in plan] == []


@pytest.mark.parametrize("collation", ["C", "und-x-icu"])
async def test_postgresql_compares_bytes_whatever_the_collation_and_finds_messages_without_a_session(
    request: pytest.FixtureRequest, collation: str
):
    place = new_place("sqlalchemy-postgres", request)
    names = {"sessions_table": f"{place.sessions_table}_s", "messages_table": f"{place.messages_table}_m"}
    ids = ["B", "a", "a_", "ab", "aé", "c", "é"]
    async with stores._postgres(place) as connection:
        text = f'TEXT COLLATE "{collation}"'
        await connection.execute(f"CREATE TABLE {names['sessions_table']} (session_id {text} PRIMARY KEY)")
        await connection.execute(
            f"CREATE TABLE {names['messages_table']} (id SERIAL PRIMARY KEY, session_id {text}, message_data TEXT,"
            " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
        )
        await connection.executemany(
            f"INSERT INTO {names['messages_table']} (session_id, message_data) VALUES ($1, '{{}}')",
            [(one,) for one in [*ids[2:], *ids[2:]]],
        )
        await connection.executemany(
            f"INSERT INTO {names['sessions_table']} (session_id) VALUES ($1)", [(one,) for one in ids[:4]]
        )
        async with whole(place, **names) as store:
            assert await store.session_ids("", None, 100) == ids
            assert await store.session_ids("a", "a", 2) == ["a_", "ab"]
            assert await store.session_ids("é", None, 2) == ["é"]
        for name in names.values():
            await connection.execute(f"DROP TABLE {name}")
