"""Every runbook of the operator's handbook is run as it stands, on a store that needs it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from encrypted_sessions import Key
from encrypted_sessions_tests import runbooks, stores
from encrypted_sessions_tests.documents import ROOT, blocks
from encrypted_sessions_tests.sealed_rows import Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_rows import Written, write_all
from encrypted_sessions_tests.whole_stores import fill, make_tables

HANDBOOK = ROOT / "docs" / "operators-handbook.md"
USER = "user-123"
LINES = 5
ROWS = 3_000
SIZE_OF_THE_TABLE = "SELECT pg_total_relation_size('agent_messages')"

#: Seconds since a row was sealed that expired by any ttl of the handbook.
LONG_AGO = 200_000

#: To a runbook that asks.
ANSWERS = "node-2: has the same; node-3: copied anew\n2026-10-01: deleted\n"

#: What a runbook ends with: the key that is left, in the words of the inventory.
CONCLUSION = "Nothing in this store depends on any key but {kid}, the active one."

Rows = Callable[[Sealer, Sealer], list[str]]


def sealed(_: Sealer, new: Sealer) -> list[str]:
    return [new.row(message("old"), age=LONG_AGO), new.ok("one"), new.ok("two")]


def plain(_: Sealer, new: Sealer) -> list[str]:
    return [*[json.dumps(message(str(number))) for number in range(1200)], new.ok("sealed")]


def of_the_sdks_class(old: Sealer, new: Sealer) -> list[str]:
    # The string is a key of 32 bytes in base64, so these are the bytes that the SDK's class writes.
    written = [json.dumps({**old.envelope(message(str(number))), "kid": "hkdf-v1"}) for number in range(5)]
    return [*written, new.ok("with the ring")]


def under_the_older_key(old: Sealer, _: Sealer) -> list[str]:
    return [old.row(message("old"), age=LONG_AGO), old.ok("one"), old.row(message("two"), age=100)]


def with_a_bad_row(_: Sealer, new: Sealer) -> list[str]:
    return [new.ok("one"), new.of("unauthentic"), new.ok("two")]


RUNBOOKS: Mapping[str, Rows] = {
    "First inventory": sealed,
    "Moving over from plaintext": plain,
    "Moving over from the SDK's class": of_the_sdks_class,
    "Rotation": under_the_older_key,
    "Moving to suite 2 and back": sealed,
    "Before a key is destroyed": under_the_older_key,
    "Several places, several tenants": under_the_older_key,
    "Retention and erasure": sealed,
    "A bad row that blocks a user": with_a_bad_row,
    "What was removed by mistake": sealed,
}


def block_under(heading: str, language: str = "sh") -> str:
    return runbooks.block_under(HANDBOOK, heading, language)


class Shell(runbooks.Shell):
    """One with a store and keys at hand, too."""

    def __init__(self, folder: Path, old: Sealer, new: Sealer, *programs: str, **others: str) -> None:
        settings = {
            "SESSIONS_URL": "sqlite:///agents.db",
            "ENCRYPTED_SESSIONS_KEYS": "env:SESSION_KEYS",
            "SESSION_KEYS": f"{new.active.name}={new.active.reveal_base64()}",
            "UPSTREAM_KEY": old.active.reveal_base64(),
        }
        super().__init__(folder, *programs, answers=ANSWERS, **(settings | others))


@pytest.fixture
def sealers() -> tuple[Sealer, Sealer]:
    old, new = Sealer(USER), Sealer(USER)
    old.active = Key.generate("2026-05")
    for one in (old, new):
        one.ring.close()
    return old, new


def a_store(folder: Path, rows: list[str], *others: list[str]) -> StoreLocation:
    place = StoreLocation("sqlite", str(folder / "agents.db"), "handbook")
    asyncio.run(fill(place, {USER: rows, **{f"user-{n}": more for n, more in enumerate(others)}}))
    return place


@pytest.mark.parametrize("heading", RUNBOOKS)
def test_a_runbook_ends_in_nothing_depends_on_another_key(
    heading: str, sealers: tuple[Sealer, Sealer], tmp_path: Path
) -> None:
    old, new = sealers
    if heading == "Rotation":
        new.active = old.active
    script = block_under(heading)
    assert len(script.splitlines()) == LINES
    a_store(tmp_path, RUNBOOKS[heading](old, new))
    keys = {"SESSION_KEYS": ",".join(f"{one.active.name}={one.active.reveal_base64()}" for one in (new, old))}
    with_both = heading in ("Before a key is destroyed", "Several places, several tenants")
    if with_both:
        keys |= {"OLD": old.active.kid, "NEW": new.active.kid}
    printed = Shell(tmp_path, old, new, **(keys if with_both else {})).run(script)
    if heading == "Before a key is destroyed":
        noted = (tmp_path / "destroyed-keys.txt").read_text()
        assert f"{old.active.kid}, by " in noted
        assert "standbys: node-2: has the same; node-3: copied anew; backups: 2026-10-01: deleted" in noted
    if heading == "Rotation":
        # What has expired is removed, and not sealed anew before.
        assert re.search("changed 1 expired removed .*changed 2 ", printed), printed
        kids = set(re.findall(r"any key but (2026-11~[0-9a-f]{8}), the active one", printed))
        assert len(kids) == 1
        assert printed.endswith("All is well: every row is in order.")
        return
    if heading == "Moving to suite 2 and back":
        assert "Of suite 1: 3 rows. " in printed
        assert "Of suite 2: 2 rows. " in printed
    assert CONCLUSION.format(kid=new.active.kid) in printed


def test_a_pipeline_gets_the_keys_that_are_free(sealers: tuple[Sealer, Sealer], tmp_path: Path) -> None:
    old, new = sealers
    a_store(tmp_path, [new.ok("one"), old.row(message("old"), age=LONG_AGO)])
    keys = ",".join(f"{one.active.name}={one.active.reveal_base64()}" for one in (new, old))
    printed = Shell(tmp_path, old, new, SESSION_KEYS=keys).run(block_under("For pipelines"))
    assert printed.startswith(f"['{old.active.kid}'] {CONCLUSION.format(kid=new.active.kid)}")


def test_a_tenants_runbook_ends_well_beside_another_tenants_rows(
    sealers: tuple[Sealer, Sealer], tmp_path: Path
) -> None:
    old, new = sealers
    theirs = Sealer("user-0")
    a_store(tmp_path, under_the_older_key(old, new), [theirs.ok("one"), theirs.ok("two")])
    theirs.ring.close()
    given = {
        "SESSION_KEYS": ",".join(f"{one.active.name}={one.active.reveal_base64()}" for one in (new, old)),
        "OTHER_KEYS": f"{theirs.active.name}={theirs.active.reveal_base64()}",
        "OLD": old.active.kid,
        "NEW": new.active.kid,
    }
    shell = Shell(tmp_path, old, new, **given)
    heading = "Several places, several tenants"
    several = [block.text for block in blocks(HANDBOOK, "sh") if "OTHER_KEYS" in block.text]
    printed = "".join(map(shell.run, several))
    assert "All is well: every row is in order." in printed
    assert f"{old.active.kid} would be sealed again under {new.active.kid}" in printed
    printed = shell.run(block_under(heading))
    assert "Not looked into: 2 rows of other keys" in printed
    assert "All is well: every row of these keys is in order." in printed
    assert f"2 rows name keys that this process has no answer for ({theirs.active.kid})" in printed


def test_what_is_erased_is_gone_and_the_rest_stays(sealers: tuple[Sealer, Sealer], tmp_path: Path) -> None:
    old, new = sealers
    other = Sealer("user-0")
    other.active = new.active
    a_store(tmp_path, sealed(old, new), [other.ok("theirs"), other.row(message("old"), age=LONG_AGO)])
    other.ring.close()
    printed = Shell(tmp_path, old, new).run(block_under("Retention and erasure"))
    assert "Dry run: nothing was removed. With --yes 2 rows would be." in printed
    assert "changed 2 expired removed" in printed
    assert "changed 2 agent_messages erased 1 agent_sessions erased" in printed
    assert "1 row, " in printed


def test_a_person_is_erased_and_the_record_of_it_stays(sealers: tuple[Sealer, Sealer], tmp_path: Path) -> None:
    old, new = sealers
    place = a_store(tmp_path, sealed(old, new))
    asyncio.run(fill(place, {f"{USER}/archive": ["{}"], f"{USER}4": ["{}"]}))
    script = block_under("A person asks to be erased")
    assert len(script.splitlines()) == LINES
    printed = Shell(tmp_path, old, new).run(script)
    assert "3 sessions, 5 rows" in printed
    assert "With --yes --expect 2, " in printed
    assert "Not reached by this command, and yours to take care of: backups and copies of the file" in printed
    report = [json.loads(line) for line in (tmp_path / "case-4711.jsonl").read_text().splitlines()]
    assert [one["session_id"] for one in report if one["event"] == "erased"] == [USER, f"{USER}/archive"]
    assert "case-4711.jsonl" in (tmp_path / "erasures.txt").read_text()
    left = [asyncio.run(raw_rows(place, one)) for one in (USER, f"{USER}/archive", f"{USER}4")]
    assert [len(rows) for rows in left] == [0, 0, 1]


def test_a_session_that_was_copied_to_another_id_is_erased(sealers: tuple[Sealer, Sealer], tmp_path: Path) -> None:
    place = a_store(tmp_path, sealed(*sealers))
    printed = Shell(tmp_path, *sealers).run(block_under("No personal data in session ids"))
    assert "With --yes --expect 1, " in printed
    assert asyncio.run(raw_rows(place, USER)) == []
    assert (tmp_path / "renamed.jsonl").exists()


def test_the_cron_job_runs_a_command_that_exists(sealers: tuple[Sealer, Sealer], tmp_path: Path) -> None:
    old, new = sealers
    a_store(tmp_path, sealed(old, new))
    yaml = block_under("As a Kubernetes CronJob", "yaml")
    found = re.findall(r"args: (\[.*\])", yaml + HANDBOOK.read_text(encoding="utf-8"))
    commands = {tuple(json.loads(args)) for args in found}
    assert {command[0] for command in commands} == {"purge", "verify"}
    shell = Shell(tmp_path, old, new)
    for command in commands:
        assert '"exit_code": 0' in shell.run(" ".join(["encrypted-sessions", *command]))


async def test_a_table_in_postgresql_keeps_about_its_size_when_it_is_sealed_anew_in_portions(
    sealers: tuple[Sealer, Sealer], tmp_path: Path, postgres_url: str, postgres_programs: Path
) -> None:
    old, new = sealers
    place = StoreLocation("sqlalchemy-postgres", postgres_url, "agent")  # with the tables' own names
    url = postgres_url.replace("+asyncpg", "")
    keys = ",".join(f"{key.name}={key.reveal_base64()}" for key in (new.active, old.active))
    shell = Shell(tmp_path, old, new, str(postgres_programs), SESSIONS_URL=url, SESSION_KEYS=keys)
    block = block_under("How long it takes, and what it costs")
    assert "--limit 1000000 " in block
    async with stores._postgres(place) as connection:
        try:
            await make_tables(place)
            await write_all(place, [Written(USER, old.ok(str(number))) for number in range(ROWS)])
            await connection.execute("VACUUM ANALYZE agent_messages")
            before = await connection.fetchval(SIZE_OF_THE_TABLE)
            printed = await asyncio.to_thread(shell.run, block.replace("1000000", str(ROWS // 5)))
            assert printed.count("VACUUM") == 4
            assert f"{ROWS // 5} rows were changed, as many as limit= allows; there are more" in printed
            assert printed.endswith("with the time and the place that they had All is well.")
            rows = await connection.fetchval(
                "SELECT count(*) FROM agent_messages WHERE strpos(message_data, $1) > 0", new.active.kid
            )
            assert rows == ROWS
            after = await connection.fetchval(SIZE_OF_THE_TABLE)
            assert after < 1.4 * before, "twice as large without a vacuum in between"
        finally:
            await connection.execute("DROP TABLE IF EXISTS agent_messages, agent_sessions")


def test_every_runbook_of_the_handbook_is_tested() -> None:
    text = HANDBOOK.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    with_kubectl = {"As a Kubernetes CronJob", "A keyset that had to be put back"}
    without_commands = {"An alarm about keys", "Capacity"}
    others = {
        "A person asks to be erased",
        "Before the first run",
        "For pipelines",
        "Hardening",  # in tests/vault/live
        "No personal data in session ids",
        "How long it takes, and what it costs",
        *without_commands,
    }
    assert set(headings) == {*RUNBOOKS, *with_kubectl, *others}
    for heading in with_kubectl:
        assert len(block_under(heading).splitlines()) == LINES
