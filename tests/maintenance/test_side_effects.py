"""Triggers and the like: refused by name, or allowed with a report that says what is not promised."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import StoreError
from encrypted_sessions.maintenance import (
    Report,
    discard,
    encrypt_plaintext,
    erase,
    inventory,
    purge,
    reencrypt,
    verify,
)
from encrypted_sessions.stores.whole import WholeStore
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.maintenance_command import report_of, run
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole

SQL = ("sqlite", "advanced-sqlite", "sqlalchemy-postgres")


@pytest.fixture(params=SQL)
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


async def execute(place: StoreLocation, *statements: str) -> None:
    if place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection:
            for statement in statements:
                await connection.execute(statement)
    else:
        with stores._sqlite(place) as connection:
            for statement in statements:
                connection.execute(statement)


async def add_trigger(place: StoreLocation, when: str, does: str, name: str = "a_trigger") -> None:
    """`does` is one statement, which may name the row as it was (old) and as it is (new)."""
    table = place.messages_table
    if place.kind == "sqlalchemy-postgres":
        function = f"{place.prefix}_{name}"
        await execute(
            place,
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {does}; RETURN NULL; END$$",
            f"CREATE TRIGGER {name} AFTER {when} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()",
        )
    else:
        await execute(place, f"CREATE TRIGGER {name} AFTER {when} ON {table} BEGIN {does}; END")


async def keep_copies(place: StoreLocation) -> None:
    copies = f"{place.prefix}_copies"
    await execute(place, f"CREATE TABLE {copies} (data text)")
    await add_trigger(place, "UPDATE", f"INSERT INTO {copies} VALUES (old.message_data)")


Changing = Callable[..., Coroutine[Any, Any, Report]]


async def every_changing_function(store: WholeStore, sealer: Sealer, folder: Path, **options: Any) -> list[Report]:
    ring = sealer.ring
    export = folder / f"gone-{time.monotonic_ns()}"
    return [
        await encrypt_plaintext(store, ring, **options),
        await reencrypt(store, ring, **options),
        await purge(store, ring, ttl=TTL, **options),
        await discard(store, ring, outcome="malformed", export=export, **options),
        await erase(store, [SESSION], **options),
    ]


async def test_a_store_with_a_trigger_is_refused_by_its_name_and_nothing_is_changed(
    place: StoreLocation, sealer: Sealer, tmp_path: Path
):
    rows = [json.dumps(message("plain")), sealer.row(message("a"), sealer.older), sealer.expired()]
    await fill(place, {SESSION: rows})
    await keep_copies(place)
    calls: list[Callable[[WholeStore], Coroutine[Any, Any, Report]]] = [
        lambda store: encrypt_plaintext(store, sealer.ring),
        lambda store: reencrypt(store, sealer.ring, allow_triggers=["another"]),
        lambda store: purge(store, sealer.ring, ttl=TTL),
        lambda store: purge(store, sealer.ring, ttl=TTL, dry_run=True),
        lambda store: discard(store, sealer.ring, outcome="malformed", export=tmp_path / "x"),
        lambda store: erase(store, [SESSION]),
    ]
    async with whole(place) as store:
        for call in calls:
            with pytest.raises(StoreError, match=f"has the trigger a_trigger of {place.messages_table}: .*--allow-tri"):
                await call(store)
        assert (await verify(store, sealer.ring)).found["plaintext"] == 1
        assert (await inventory(store, sealer.ring)).stopped is None
    assert await raw_rows(place, SESSION) == rows


async def test_what_was_allowed_by_name_is_in_the_report_with_what_cannot_be_promised(
    place: StoreLocation, sealer: Sealer, tmp_path: Path
):
    await fill(place, {SESSION: [json.dumps(message("plain")), sealer.row(message("a"), sealer.older)]})
    await keep_copies(place)
    async with whole(place) as store:
        for report in await every_changing_function(store, sealer, tmp_path, allow_triggers=["a_trigger"]):
            assert report.ok
            (notice,) = report.notices
            assert notice.startswith(f"the trigger a_trigger of {place.messages_table} was allowed: so it is not")


async def test_generated_columns_are_found(place: StoreLocation, sealer: Sealer):
    await fill(place, {SESSION: [sealer.ok("a")]})
    kept = "STORED" if place.kind == "sqlalchemy-postgres" else "VIRTUAL"
    column = f"shadow text GENERATED ALWAYS AS (message_data) {kept}"
    await execute(place, f"ALTER TABLE {place.messages_table} ADD COLUMN {column}")
    async with whole(place) as store:
        with pytest.raises(StoreError, match=f"has the generated column shadow of {place.messages_table}:"):
            await reencrypt(store, sealer.ring)
        assert (await reencrypt(store, sealer.ring, allow_triggers=("shadow",))).ok


async def test_a_virtual_table_is_found(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: []})
    await execute(
        file,
        f"DROP TABLE {file.messages_table}",
        f"CREATE VIRTUAL TABLE {file.messages_table} USING fts5(id, session_id, message_data, created_at)",
    )
    async with whole(file) as store:
        with pytest.raises(StoreError, match=f"has the virtual table {file.messages_table}:"):
            await purge(store, sealer.ring, ttl=TTL)


async def test_rules_and_triggers_of_partitions_are_found_and_what_is_switched_off_is_not(
    request: pytest.FixtureRequest, sealer: Sealer
):
    place = new_place("sqlalchemy-postgres", request)
    await fill(place, {SESSION: [sealer.ok("a")]})
    child, table = f"{place.prefix}_child", place.messages_table
    await execute(place, f"CREATE TABLE {child} () INHERITS ({table})")
    await execute(place, f"CREATE RULE a_rule AS ON DELETE TO {child} DO ALSO NOTIFY somebody")
    await add_trigger(place, "UPDATE", "NULL")
    await execute(place, f"ALTER TABLE {table} DISABLE TRIGGER a_trigger")
    async with whole(place) as store:
        with pytest.raises(StoreError, match=f"has the rule a_rule of {child}:"):
            await reencrypt(store, sealer.ring)


async def test_no_more_is_removed_than_was_counted_where_a_trigger_multiplies_rows(
    place: StoreLocation, sealer: Sealer
):
    rows = [sealer.expired(str(n)) for n in range(3)]
    await fill(place, {SESSION: rows})
    columns = "session_id, message_data, created_at"
    twice = " UNION ALL ".join(["SELECT old.session_id, old.message_data, old.created_at"] * 2)
    await add_trigger(place, "DELETE", f"INSERT INTO {place.messages_table} ({columns}) {twice}")
    async with whole(place) as store:
        report = await asyncio.wait_for(purge(store, sealer.ring, ttl=TTL, batch=1, allow_triggers=["a_trigger"]), 60)
    assert report.changed == 3
    assert (report.ok, report.stopped) == (False, "limit")
    assert "as many as there were at the start" in str(report.stopped_because)


async def test_a_stop_is_heeded_within_a_second_while_a_trigger_holds_the_run(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(message(str(n)), age=AGE) for n in range(3)]
    await fill(place, {SESSION: rows})
    if place.kind == "sqlalchemy-postgres":
        await add_trigger(place, "DELETE", "PERFORM pg_sleep(25)")
    else:
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
        await add_trigger(place, "DELETE", f"UPDATE agent_sessions SET session_id = ({endless})")
    told_at = None

    def stop() -> bool:
        nonlocal told_at
        if time.monotonic() - began > 2 and told_at is None:
            told_at = time.monotonic()
        return told_at is not None

    async with whole(place) as store:
        began = time.monotonic()
        report = await purge(store, sealer.ring, ttl=TTL, batch=1, allow_triggers=["a_trigger"], stop=stop)
        assert told_at is not None
        assert time.monotonic() - told_at < 1.0
    assert (report.stopped, report.changed) == ("interrupted", 0)
    assert await raw_rows(place, SESSION) == rows


def test_the_command_takes_what_is_allowed_by_name(file: StoreLocation, sealer: Sealer):
    asyncio.run(fill(file, {SESSION: [json.dumps(message("plain"))]}))
    asyncio.run(keep_copies(file))
    refused = run(file, sealer, "encrypt", "--yes")
    assert refused.exit_code == 1
    assert "--allow-trigger NAME" in refused.stderr
    report = report_of(run(file, sealer, "encrypt", "--yes", "--allow-trigger", "a_trigger", "--json"))
    assert (report["exit_code"], report["changed"]) == (0, 1)
    assert "it is not guaranteed" in report["notices"][0]
    text = run(file, sealer, "encrypt", "--yes", "--allow-trigger", "a_trigger")
    assert "Note: the trigger a_trigger" in text.stdout
