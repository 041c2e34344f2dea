"""The commands over whole stores: what they do, what they print, and with which code they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from encrypted_sessions import EncryptedSession
from encrypted_sessions.cli import application
from encrypted_sessions_tests.maintenance_command import environment_of, filled, report_of, run
from encrypted_sessions_tests.sealed_rows import AGE, OUTCOMES, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, open_store, raw_rows

COMMANDS = ("inventory", "verify", "inspect", "reencrypt", "encrypt", "purge", "discard", "erase", "put-back")
DELETING: dict[str, tuple[str, ...]] = {
    "purge": ("--ttl", str(TTL)),
    "discard": ("--outcome", "unauthentic"),
    "erase": ("--session", SESSION),
}
PASSWORD = "".join(("open", "-", "sesame"))
UNTIL = ["verify", "sqlite:///a.db", "--keys", "env:A", "--upstream-key", "env:PATH", "--upstream-until"]


@pytest.fixture(autouse=True)
def _no_default_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENCRYPTED_SESSIONS_KEYS", raising=False)


def rows_at(place: StoreLocation, session_id: str = SESSION) -> list[Any]:
    return asyncio.run(raw_rows(place, session_id))


def one_line(text: str) -> str:
    return " ".join(text.split())


def columns(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


def invoke(*arguments: str, **environment: str) -> Result:
    """A command line as it stands."""
    return CliRunner(env=environment).invoke(application(), arguments, prog_name="encrypted-sessions")


# -- One store from the first command to the last -----------------------------------------------------


def test_from_the_first_inventory_to_the_end_of_the_old_key(place: StoreLocation, sealer: Sealer, tmp_path: Path):
    neighbour = Sealer("user-2")
    neighbour.active, neighbour.older = sealer.active, sealer.older
    rows = [
        sealer.expired(),
        sealer.row(message("under the older key"), sealer.older, age=100),
        sealer.of("unauthentic"),
        sealer.of("plaintext", "never sealed"),
        sealer.ok("sealed"),
    ]
    filled(place, {SESSION: rows, "user-2": [neighbour.row(message("theirs"), sealer.older)]})

    labels = report_of(run(place, None, "inventory", "--json"))
    assert (labels["proven"], labels["exit_code"]) == (False, 0)
    assert "labels are not proof" in labels["conclusion"]
    counted = report_of(run(place, sealer, "inventory", "--ttl", str(TTL), "--json"))
    assert {(group["kid"], group["outcome"]): group["items"] for group in counted["groups"]} == {
        (sealer.active.kid, "expired"): 1,
        (sealer.active.kid, "ok"): 1,
        (sealer.active.kid, "unauthentic"): 1,
        (sealer.older.kid, "ok"): 2,
        (None, "plaintext"): 1,
    }

    verified = run(place, sealer, "verify", "--ttl", str(TTL))
    assert verified.exit_code == 1
    assert "Not well: 2 rows left (" in one_line(verified.stdout)

    purged = run(place, sealer, "purge", "--ttl", str(TTL), "--yes", "--json")
    assert (report_of(purged)["changed"], report_of(purged)["dry_run"]) == (1, False)
    assert rows_at(place) == rows[1:]

    dry = run(place, sealer, "encrypt")
    assert dry.exit_code == 1
    assert "Dry run: nothing was sealed. With --yes 1 row would be." in one_line(dry.stdout)
    assert rows_at(place) == rows[1:]
    encrypted = run(place, sealer, "encrypt", "--yes")
    assert encrypted.exit_code == 0, encrypted.output
    assert "they count as authentic, whoever wrote them" in one_line(encrypted.stdout)

    assert run(place, sealer, "discard", "--outcome", "unauthentic").exit_code == 0
    export = tmp_path / "discarded.jsonl"
    discarded = run(place, sealer, "discard", "--outcome", "unauthentic", "--export", str(export), "--yes")
    assert discarded.exit_code == 0, discarded.output
    line, _ = export.read_text().splitlines()
    assert json.loads(line)["data"] == rows[2]
    assert stat.S_IMODE(export.stat().st_mode) == 0o600

    assert report_of(run(place, sealer, "reencrypt", "--json"))["changed"] == 2
    assert report_of(run(place, sealer, "reencrypt", "--json"))["changed"] == 0

    verified = run(place, sealer, "verify", "--ttl", str(TTL))
    assert (verified.exit_code, verified.stdout.splitlines()[-1]) == (0, "All is well: every row is in order.")
    ended = run(place, sealer, "inventory", "--ttl", str(TTL))
    assert f"Nothing in this store depends on any key but {sealer.active.kid}" in one_line(ended.stdout)

    async def read() -> list[Any]:
        async with open_store(place, SESSION) as store:
            return await EncryptedSession.wrap(store, sealer.ring, ttl=TTL).get_items()

    assert asyncio.run(read()) == [message("under the older key"), message("never sealed"), message("sealed")]

    erased = run(place, None, "erase", "--session", SESSION, "--session", "user-2", "--yes")
    assert erased.exit_code == 0, erased.output
    assert (rows_at(place), rows_at(place, "user-2")) == ([], [])
    neighbour.ring.close()


def test_at_80_columns_a_row_of_an_inventory_is_one_line_with_days_and_a_wider_terminal_has_the_times(
    file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    under_older = sealer.row(message("a"), sealer.older, age=100)
    filled(file, {SESSION: [under_older, sealer.of("unauthentic"), sealer.of("plaintext"), sealer.ok("b")]})
    for width, version, time in ((80, "", ""), (200, r"  +\d", r" \d\d:\d\d:\d\d")):
        monkeypatch.setenv("COLUMNS", str(width))
        printed = run(file, sealer, "inventory", "--ttl", str(TTL)).stdout
        day = rf"\d{{4}}-\d\d-\d\d{time}"
        for kid, outcome in ((sealer.active.kid, "ok"), (sealer.active.kid, "unauthentic"), (sealer.older.kid, "ok")):
            group = rf"^{kid} *{version}  +{outcome}  +1  +1  +{day}  +{day}  +\d+ B$"
            assert re.search(group, printed, re.MULTILINE), printed
        use = rf"^{sealer.older.kid}  +1  +0  +{day}  +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d$"
        assert re.search(use, printed, re.MULTILINE), printed


def test_a_pipeline_goes_on_only_if_the_keys_are_free(place: StoreLocation, sealer: Sealer):
    filled(place, {SESSION: [sealer.ok("one"), sealer.row(message("two"), sealer.older)]})
    once = ("inventory", "--require-free", sealer.older.kid)
    needed = run(place, sealer, *once)
    assert (needed.exit_code, f"Not free: {sealer.older.kid}, for 1 row needs it." in one_line(needed.stdout)) == (
        1,
        True,
    )
    assert run(place, sealer, "reencrypt").exit_code == 0
    free = run(place, sealer, *once)
    assert (free.exit_code, f"Free, as required: {sealer.older.kid}." in one_line(free.stdout)) == (0, True)
    nobodys = report_of(run(place, sealer, *once, "--require-free", "2020~00000000", "--json"))
    assert (nobodys["exit_code"], list(nobodys["not_free"])) == (1, ["2020~00000000"])
    assert run(place, sealer, "inventory", "--require-free", "no kid").exit_code == 2
    assert run(place, None, *once).exit_code == 2


@pytest.mark.parametrize("command", DELETING)
def test_what_deletes_runs_dry_without_yes(place: StoreLocation, sealer: Sealer, command: str, tmp_path: Path):
    rows = [sealer.expired(), sealer.of("unauthentic"), sealer.ok("one")]
    filled(place, {SESSION: rows})
    more = (*DELETING[command], *(["--export", str(tmp_path / "file")] if command == "discard" else []))
    result = run(place, sealer, command, *more)
    assert "(dry run)" in one_line(result.stdout)
    assert "Dry run: nothing was removed. With --yes " in one_line(result.stdout)
    assert report_of(run(place, sealer, command, *more, "--json"))["dry_run"] is True
    assert rows_at(place) == rows
    assert list(tmp_path.glob("file")) == []


def test_rows_of_the_sdks_class_are_sealed_with_its_string(
    file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    from agents import SQLiteSession
    from agents.extensions.memory import EncryptedSession as Upstream

    secret = "".join(("a pass", "phrase"))

    async def write() -> None:
        store = SQLiteSession(SESSION, file.where)
        await Upstream(SESSION, store, secret).add_items([message("one")])  # type: ignore[list-item]
        store.close()

    asyncio.run(write())
    monkeypatch.setenv("UPSTREAM_STRING", secret)
    assert report_of(run(file, sealer, "encrypt", "--yes", "--json"))["changed"] == 0
    ended = ("--upstream-key", "env:UPSTREAM_STRING", "--upstream-until", "2026-01-01T09:00Z", "--json")
    result = run(file, sealer, "encrypt", "--yes", *ended)
    assert (report_of(result)["changed"], report_of(result)["left"]) == (0, {"unauthentic": 1})
    assert result.exit_code == 1
    assert report_of(run(file, sealer, "verify", *ended))["left"] == {"unauthentic": 1}
    result = run(file, sealer, "encrypt", "--yes", "--upstream-key", "env:UPSTREAM_STRING", "--json")
    assert (report_of(result)["upstream"], report_of(result)["changed"]) == (1, 1)
    assert run(file, sealer, "verify").exit_code == 0


def test_limit_ends_a_run_and_the_next_one_goes_on(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.row(message(str(n)), sealer.older) for n in range(10)]})
    first = run(file, sealer, "reencrypt", "--limit", "4", "--batch", "2", "--json")
    assert (report_of(first)["changed"], report_of(first)["stopped"], first.exit_code) == (4, "limit", 1)
    assert report_of(run(file, sealer, "reencrypt", "--json"))["changed"] == 6


def test_from_takes_one_key_alone(file: StoreLocation, sealer: Sealer):
    third = sealer.unknown
    filled(file, {SESSION: [sealer.row(message("a"), sealer.older), sealer.row(message("b"), third)]})
    report = report_of(run(file, sealer, "reencrypt", "--from", sealer.older.kid, "--json"))
    assert (report["changed"], report["left"], report["from_kid"]) == (1, {}, sealer.older.kid)


# -- inspect and doctor -------------------------------------------------------------------------------


def test_inspect_shows_envelopes_and_needs_no_key(place: StoreLocation, sealer: Sealer, monkeypatch: Any):
    monkeypatch.setenv("COLUMNS", "200")  # a row of a table is one line
    filled(place, {SESSION: [sealer.of(kind) for kind in OUTCOMES]})
    result = run(place, None, "inspect", "--session", SESSION)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()[3 : 3 + len(OUTCOMES)]]
    assert len(lines) == len(OUTCOMES)
    assert {line[1] for line in lines} == {"version", "plaintext", "malformed", "unsupported"}
    rows = json.loads(run(place, None, "inspect", "--session", SESSION, "--json").stdout)["rows"]
    assert [row["kid"] for row in rows[:2]] == [sealer.active.kid] * 2
    assert rows[1]["timestamp"] == f"{datetime.fromtimestamp(sealer.now - AGE, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    assert rows[1]["age_s"] >= AGE
    assert [row["size"] for row in rows] == [len(row) for row in rows_at(place)]
    assert not [row for row in rows_at(place) if len(row) > 100 and row[-60:-10] in result.stdout]


def test_inspect_of_a_session_that_is_not_there_says_so(file: StoreLocation):
    filled(file, {SESSION: ["{}"]})
    result = run(file, None, "inspect", "--session", "somebody else")
    assert result.exit_code == 1
    assert "has no rows of the session somebody else." in result.stdout


def doctor(place: StoreLocation, sealer: Sealer, *more: str) -> Result:
    variables = environment_of(place, sealer)
    store = f"sqlite:///{place.where}"
    return invoke("doctor", variables["ENCRYPTED_SESSIONS_KEYS"], "--store", store, *more, **variables)


def test_the_doctor_says_whether_this_process_could_read_a_store(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.ok("one"), sealer.row(message("two"), sealer.older)]})
    result = doctor(file, sealer)
    assert result.exit_code == 0, result.output
    assert "By the labels of the rows, a process with these keys can read all that is there." in result.stdout
    assert ["ok", sealer.older.kid, "1", "their", "key", "is", "at", "hand"] in columns(result)


def test_the_doctor_names_the_keys_that_this_process_cannot_have(file: StoreLocation, sealer: Sealer):
    filled(
        file, {SESSION: [sealer.ok("one"), sealer.of("unknown_key"), sealer.of("plaintext"), sealer.of("unsupported")]}
    )
    result = doctor(file, sealer)
    assert result.exit_code == 1
    assert "A process with these keys cannot read all that is there." in result.stdout
    assert ["FAILED", sealer.unknown.kid, "1"] in [line[:3] for line in columns(result)]
    told = json.loads(doctor(file, sealer, "--json").stdout)
    assert (told["ok"], told["store"]["ok"], told["store"]["rows"]) == (True, False, 4)
    answers = {(check["kid"], check["answer"]) for check in told["store"]["checks"]}
    assert answers == {
        (sealer.active.kid, "held"),
        (sealer.unknown.kid, "unknown_key"),
        (None, "plaintext"),
        (None, "unsupported"),
    }


def test_the_doctor_says_that_it_did_not_look_at_a_store_without_keys(file: StoreLocation):
    filled(file, {})
    for as_json in ((), ("--json",)):
        result = invoke("doctor", "env:NOT_SET", "--store", f"sqlite:///{file.where}", *as_json)
        assert result.exit_code == 2
        if as_json:
            assert json.loads(result.stdout)["store"] is None
        else:
            assert "The store was not checked" in result.stdout


def test_the_doctor_knows_the_rows_of_the_sdks_class(
    file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")  # a finding is one line
    row = json.dumps({**sealer.envelope(message("one")), "kid": "hkdf-v1"})
    filled(file, {SESSION: [row]})
    assert "sessions need upstream_key=, and this command --upstream-key" in doctor(file, sealer).stdout
    monkeypatch.setenv("UPSTREAM_STRING", "".join(("a pass", "phrase")))
    assert doctor(file, sealer, "--upstream-key", "env:UPSTREAM_STRING").exit_code == 0


# -- What is printed ----------------------------------------------------------------------------------


def test_the_table_is_aligned_and_no_line_too_long(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.ok("x")] * 1234 + [sealer.of(kind) for kind in OUTCOMES]})
    for command, more in (("verify", ()), ("purge", ("--ttl", "600")), ("reencrypt", ())):
        result = run(file, sealer, command, *more)
        lines = result.stdout.splitlines()
        assert max(map(len, lines[1:])) <= 100  # the first one has a path
        counts = [line for line in lines if line[:9].strip() in ("found", "changed", "left") and line.strip()]
        assert {line[:9].strip() for line in counts} >= {"found", "left"}
    assert result.stdout.endswith("\n")
    assert not result.stdout.endswith("\n\n")


def test_what_a_row_or_a_session_says_of_itself_cannot_steer_a_terminal(file: StoreLocation):
    hostile = "user\x1b[31m\u202e\r\n-2"
    sealer = Sealer(hostile)
    filled(file, {hostile: [sealer.of("unauthentic"), json.dumps({**sealer.envelope({}), "kid": "a\x1b[2J~00000000"})]})
    for command, more in (
        ("verify", ()),
        ("inventory", ()),
        ("inspect", ("--session", hostile)),
        ("erase", ("--session", hostile)),
        ("erase", ("--session", "missing\x1b[31m")),
    ):
        result = run(file, sealer, command, *more)
        assert not set(result.output) & {"\x1b", "\r", "\u202e"}, command
    sealer.ring.close()


def test_what_a_store_says_in_an_error_cannot_steer_a_terminal(file: StoreLocation, sealer: Sealer):
    with contextlib.closing(sqlite3.connect(file.where)) as connection:
        connection.execute('CREATE TABLE "tables\x1b[2J\u202e" (id)')
    result = run(file, sealer, "verify")
    assert result.exit_code == 4
    assert "has no table" in result.stderr
    assert not set(result.output) & {"\x1b", "\u202e"}


def test_a_run_without_rows_of_the_sdks_class_does_not_speak_of_them(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.of("plaintext")]})
    assert "hkdf-v1" not in run(file, sealer, "encrypt", "--yes").stdout


def test_json_is_one_object_per_line_and_the_report_comes_last(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.ok("one")]})
    for command in ("inventory", "verify", "reencrypt", "encrypt"):
        report = report_of(run(file, sealer, command, "--json"))
        assert (report["command"], report["ok"], report["exit_code"]) == (command, True, 0)
    lines = run(file, sealer, "verify", "--json").stdout.splitlines()
    progress = json.loads(lines[0])
    assert {"event", "seen", "total", "changed", "rate", "left_s"} <= set(progress)


def test_an_empty_store_is_well(file: StoreLocation, sealer: Sealer):
    filled(file, {})
    for command in ("inventory", "verify", "reencrypt", "encrypt"):
        assert run(file, sealer, command).exit_code == 0
    assert "There are no rows." in run(file, sealer, "inventory").stdout
    assert "There are no rows." in run(file, sealer, "verify").stdout


def test_a_command_has_large_blocks_of_freed_memory_returned(
    file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    filled(file, {})
    asked_for = []
    monkeypatch.setattr("encrypted_sessions.cli.running.return_freed_memory", lambda: asked_for.append(True))
    assert run(file, sealer, "verify").exit_code == 0
    assert asked_for == [True]


# -- Wrong use, and what fails -------------------------------------------------------------------------


def test_help_lists_the_commands_and_each_states_its_exit_codes():
    listed = invoke("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in listed
        result = invoke(command, "--help")
        assert result.exit_code == 0
        assert "Exit codes: 0 " in one_line(result.stdout)
        assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify"], "Missing argument"),
        (["verify", "sqlite:///a.db"], "say where your keys are"),
        (["verify", "agents.db", "--keys", "env:A"], "for an SQLite file write sqlite:///agents.db"),
        (["verify", "mysql://host/name", "--keys", "env:A"], "whole stores of the kind mysql:// are not supported"),
        (["verify", "sqlite://", "--keys", "env:A"], "a store in memory"),
        (["verify", "env:NOT_SET_ANYWHERE", "--keys", "env:A"], "NOT_SET_ANYWHERE is not set"),
        (
            ["verify", "sqlite:///a.db", "--keys", "nothing:x"],
            "no key provider reads URLs that begin with nothing:",
        ),
        (["verify", "sqlite:///a.db", "--keys", "env:A", "--ttl", "0"], "--ttl"),
        (["verify", "sqlite:///a.db", "--keys", "env:A", "--ttl", "soon"], "--ttl"),
        (["verify", "sqlite:///a.db", "--keys", "env:A", "--batch", "0"], "--batch"),
        (["verify", "sqlite:///a.db", "--keys", "env:A", "--messages-table", ""], "messages_table"),
        (["verify", "sqlite:///a.db", "--keys", "env:A", "--upstream-key", PASSWORD], "give env:NAME"),
        ([*UNTIL, "2026-12-01T09:00"], "give a time with a time zone, such as 2026-12-01T09:00Z"),
        ([*UNTIL, "yesterday"], "give a time with a time zone"),
        ([*UNTIL, ""], "give a time with a time zone"),
        (["verify", "sqlite:///a.db", "--keys", "env:A", "--upstream-until", "2026-12-01T09:00Z"], "--upstream-key"),
        (["verify", "sqlite:///a.db", "--keys", "env:A", "--upstream-key", "env:NOT_SET_ANYWHERE"], "is not set"),
        (["purge", "sqlite:///a.db", "--keys", "env:A"], "--ttl"),
        (["purge", "sqlite:///a.db", "--keys", "env:A", "--ttl", "5", "--limit", "0"], "--limit"),
        (["reencrypt", "sqlite:///a.db", "--keys", "env:A", "--from", "no kid"], "--from must be a kid"),
        (["discard", "sqlite:///a.db", "--keys", "env:A"], "--outcome"),
        (["discard", "sqlite:///a.db", "--keys", "env:A", "--outcome", "ok"], "cannot be discarded"),
        (["discard", "sqlite:///a.db", "--keys", "env:A", "--outcome", "odd"], "outcome must be one of"),
        (["discard", "sqlite:///a.db", "--keys", "env:A", "--outcome", "malformed", "--yes"], "--export"),
        (["discard", "sqlite:///a.db", "--keys", "env:A", "--outcome", "expired_unverified"], "needs ttl="),
        (["erase", "sqlite:///a.db"], "--session"),
        (["erase", "sqlite:///a.db", "--session", ""], "session_id is empty"),
        (["inspect", "sqlite:///a.db"], "--session"),
        (["inspect", "sqlite:///a.db", "--session", ""], "session_id is empty"),
        (["inspect", f"postgresql://user:{PASSWORD}@host/name", "--session", "a"], "holds a password"),
        (["erase", f"redis://:{PASSWORD}@host:6379/0", "--session", "a"], "holds a password"),
        (["doctor", "env:A", "--store"], "--store"),
    ],
)
def test_wrong_use_ends_with_2_and_shows_nothing_secret(arguments: list[str], words: str):
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert words in one_line(result.stderr)
    assert PASSWORD not in result.stderr


def test_a_store_that_is_not_there_ends_with_4(tmp_path: Path, sealer: Sealer):
    for command, more in (("inventory", ()), ("erase", ("--session", "a")), ("inspect", ("--session", "a"))):
        result = invoke(command, f"sqlite:///{tmp_path / 'none.db'}", *more)
        assert (result.exit_code, result.stdout) == (4, "")
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_keys_that_are_not_set_end_with_2_before_anything_is_done(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.of("plaintext")]})
    rows = rows_at(file)
    result = invoke("encrypt", f"sqlite:///{file.where}", "--keys", "env:NOT_SET_ANYWHERE")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: no key could be fetched: ")
    assert rows_at(file) == rows


def test_an_export_that_exists_is_wrong_use_and_nothing_is_removed(file: StoreLocation, sealer: Sealer, tmp_path: Path):
    rows = [sealer.of("unauthentic")]
    filled(file, {SESSION: rows})
    export = tmp_path / "export"
    export.write_text("mine")
    result = run(file, sealer, "discard", "--outcome", "unauthentic", "--export", str(export), "--yes")
    assert result.exit_code == 2
    assert "exists already" in one_line(result.stderr)
    assert (export.read_text(), rows_at(file)) == ("mine", rows)
    nowhere = tmp_path / "no folder" / "export"
    result = run(file, sealer, "discard", "--outcome", "unauthentic", "--export", str(nowhere), "--yes")
    assert result.exit_code == 1
    assert rows_at(file) == rows


def test_the_files_of_advanced_sqlite_are_purged_too(sealer: Sealer, request: pytest.FixtureRequest):
    place = new_place("advanced-sqlite", request)
    filled(place, {SESSION: [sealer.expired(), sealer.ok("one")]})
    assert report_of(run(place, sealer, "purge", "--ttl", "600", "--yes", "--json"))["changed"] == 1
    assert len(rows_at(place)) == 1
