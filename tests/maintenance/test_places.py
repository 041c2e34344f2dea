"""Several places of keys: the first seals, all are read, and none decides for another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from encrypted_sessions import Key, KeyAccessDeniedError, KeyUnavailableError
from encrypted_sessions.cli import application
from encrypted_sessions.maintenance import encrypt_plaintext, inventory, keys, reencrypt, verify
from encrypted_sessions_tests.envelopes import kid_of
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.maintenance_command import KEYS, arguments_for, environment_of, filled, report_of, run
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole

OTHER = "user-2"
OTHER_KEYS = "KEYS_OF_THE_OTHER_TENANT"
BOTH = ("--keys", f"env:{KEYS}", "--keys", f"env:{OTHER_KEYS}")


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sealer]:
    """Another tenant: keys of the same names, and other bytes."""
    other = Sealer(OTHER)
    shown = ",".join(f"{key.name}={key.reveal_base64()}" for key in (other.active, other.older))
    monkeypatch.setenv(OTHER_KEYS, shown)
    yield other
    other.ring.close()


def rows_of(sealer: Sealer) -> list[str]:
    return [sealer.ok("one"), sealer.row(message("two"), sealer.older), sealer.row(message("three"), sealer.older)]


def one_line(text: str) -> str:
    return " ".join(text.split())


async def test_every_given_place_is_read_and_without_one_its_rows_are_left(
    place: StoreLocation, sealer: Sealer, other: Sealer
):
    await fill(place, {SESSION: rows_of(sealer), OTHER: rows_of(other)})
    async with whole(place) as store:
        assert (await verify(store, [sealer.ring, other.ring])).found == {"ok": 6}
        alone = await verify(store, sealer.ring)
        assert (alone.ok, alone.left) == (False, {"unknown_key": 3})
        counted = await inventory(store, (other.ring, sealer.ring))
    assert counted.active_kid == other.active.kid
    needed = {use.kid: use.needed_by for use in counted.keys if use.needed_by}
    assert needed == {sealer.active.kid: 1, sealer.older.kid: 2, other.active.kid: 1, other.older.kid: 2}


@pytest.mark.parametrize(("name", "outcome"), [("destroyed", "erased"), ("disabled", "key_disabled")])
async def test_a_key_is_gone_only_where_no_given_place_has_its_whole_kid(
    sealer: Sealer, other: Sealer, name: str, outcome: str
):
    other.provider.work(name)
    store = MemoryStore(OTHER, [other.row(message("theirs"), getattr(other, name))])
    assert (await verify(store, [sealer.ring, other.ring])).found == {"ok": 1}
    assert (await verify(store, [other.ring, sealer.ring])).found == {"ok": 1}
    other.provider.fail(name, KeyAccessDeniedError)
    other.ring.close()
    other.ring = impatient_ring(other.provider)
    refused = await verify(store, [sealer.ring, other.ring])
    assert (refused.found, refused.left) == ({"not_opened": 1}, {"key_not_answered": 1})
    assert "KeyAccessDeniedError" in refused.notices[0]
    assert (await verify(store, sealer.ring)).found == {outcome: 1}


async def test_a_row_that_names_a_key_by_another_fingerprint_hides_none_of_that_name(sealer: Sealer):
    """Nor does another tenant's key of the same name, which is asked for first here."""
    made_up = json.dumps({**sealer.envelope(message("a")), "kid": "older~00000000"})
    store = MemoryStore(SESSION, [*[made_up] * 40, sealer.row(message("mine"), sealer.older)])
    report = await verify(store, sealer.ring, batch=10)
    assert report.found == {"unknown_key": 40, "ok": 1}


async def test_a_place_that_does_not_answer_is_named_unless_another_one_has_the_key(
    sealer: Sealer, other: Sealer, monkeypatch: pytest.MonkeyPatch
):
    async def at_once(seconds: float, stop: object) -> None:
        pass

    monkeypatch.setattr(keys, "wait", at_once)
    down = ScriptedKeys(Key.generate("x"))
    down.place = "the vault in the cellar"
    for name in ("active", "older"):
        down._failures[name] = lambda: KeyUnavailableError("the vault in the cellar does not answer")
    silent = impatient_ring(down)
    store = MemoryStore(OTHER, rows_of(other))
    assert (await verify(store, [sealer.ring, silent, other.ring])).found == {"ok": 3}
    report = await verify(store, [sealer.ring, silent])
    assert (report.ok, report.stopped, report.found) == (False, "provider", {})
    assert "the vault in the cellar" in str(report.stopped_because)
    silent.close()


async def test_reencrypt_wants_to_know_which_rows_come_under_the_first_places_key(
    place: StoreLocation, sealer: Sealer, other: Sealer
):
    rows = {SESSION: rows_of(sealer), OTHER: rows_of(other)}
    await fill(place, rows)
    rings = [sealer.ring, other.ring]
    async with whole(place) as store:
        with pytest.raises(ValueError, match="say which with kids="):
            await reencrypt(store, rings)
        dry = await reencrypt(store, rings, all_sessions=True, dry_run=True)
        assert (dry.ok, dry.dry_run, dry.to_kid, dry.already) == (True, True, sealer.active.kid, 1)
        assert dry.moved == {sealer.older.kid: 2, other.active.kid: 1, other.older.kid: 2}
        assert await raw_rows(place, OTHER) == rows[OTHER]
        mine = await reencrypt(store, rings, kids=[sealer.older.kid])
        assert (mine.ok, mine.changed, mine.moved) == (True, 2, {sealer.older.kid: 2})
        assert mine.other_keys == {other.active.kid: 1, other.older.kid: 2}
        assert await raw_rows(place, OTHER) == rows[OTHER]
        everything = await reencrypt(store, rings, all_sessions=True)
    assert everything.changed == 3
    assert {kid_of(row) for row in await raw_rows(place, OTHER)} == {sealer.active.kid}


async def test_plaintext_comes_under_the_first_places_key(sealer: Sealer, other: Sealer):
    store = MemoryStore(SESSION, [sealer.of("plaintext")])
    assert (await encrypt_plaintext(store, [sealer.ring, other.ring])).to_kid == sealer.active.kid


@pytest.mark.parametrize("given", [[], [None], "env:A", ["env:A"], {}])
async def test_what_are_no_rings_is_refused(given: Any):
    with pytest.raises((TypeError, ValueError), match="keys"):
        await verify(MemoryStore(SESSION, []), given)


# -- The command --------------------------------------------------------------------------------------


def two_tenants(place: StoreLocation, sealer: Sealer, other: Sealer) -> None:
    filled(place, {SESSION: rows_of(sealer), OTHER: rows_of(other)})


def test_keys_may_be_given_several_times_or_stand_in_the_variable(
    place: StoreLocation, sealer: Sealer, other: Sealer, monkeypatch: pytest.MonkeyPatch
):
    two_tenants(place, sealer, other)
    for instead in ((), ("--keys", f"env:{OTHER_KEYS}")):
        report = report_of(run(place, sealer, "verify", *instead, "--json"))
        assert (report["found"], report["left"]) == ({"ok": 3, "unknown_key": 3}, {"unknown_key": 3})
        mine = other if instead else sealer
        assert report["active_kid"] == mine.active.kid
    for command in ("verify", "inventory", "encrypt"):
        assert run(place, sealer, command, *BOTH).exit_code == 0
    assert report_of(run(place, sealer, "purge", "--ttl", "1d", *BOTH, "--json"))["found"] == {"ok": 6}


def test_the_variable_holds_several_places_apart_by_white_space(
    file: StoreLocation, sealer: Sealer, other: Sealer, tmp_path: Path
):
    two_tenants(file, sealer, other)
    path = tmp_path / "with a space"
    path.write_text("\n".join(f"{key.name}={key.reveal_base64()}" for key in (other.active, other.older)))
    path.chmod(0o600)
    places = f"env:{KEYS}\n  file:{str(path).replace(' ', '%20')}\n"
    environment = {**environment_of(file, sealer), "ENCRYPTED_SESSIONS_KEYS": places}
    for command, more in (("verify", ()), ("doctor", ("--store", f"sqlite:///{file.where}"))):
        arguments = arguments_for(file, command, *more) if command == "verify" else [command, *more, "--json"]
        result = CliRunner(env=environment).invoke(application(), arguments)
        assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["kid"], told["ok"], told["store"]["ok"]) == (sealer.active.kid, True, True)
    assert [one["kid"] for one in told["also_read"]] == [other.active.kid]


def test_the_doctor_checks_each_place(file: StoreLocation, sealer: Sealer, other: Sealer):
    def doctor(*arguments: str) -> Result:
        return CliRunner(env=environment_of(file, sealer)).invoke(application(), ["doctor", *arguments])

    places = (f"env:{KEYS}", f"env:{OTHER_KEYS}")
    said = doctor(*places)
    assert said.exit_code == 0, said.output
    assert said.stdout.count("All is well.") == 2
    assert doctor(*places, "env:NOT_SET_ANYWHERE").exit_code == 2
    both = doctor(places[0], "--keys", places[1])
    assert (both.exit_code, both.stdout) == (2, "")


def test_reencrypt_with_several_places_runs_dry_and_shows_what_would_move(
    place: StoreLocation, sealer: Sealer, other: Sealer
):
    two_tenants(place, sealer, other)
    refused = run(place, sealer, "reencrypt", *BOTH, "--yes")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--kid KID" in one_line(refused.stderr)
    dry = run(place, sealer, "reencrypt", *BOTH, "--all-sessions")
    assert dry.exit_code == 0
    for kid, count in ((sealer.older.kid, 2), (other.active.kid, 1), (other.older.kid, 2)):
        assert f"{count} {kid} would be sealed again under {sealer.active.kid}" in one_line(dry.stdout)
    assert "Dry run: nothing was sealed. With --yes 5 rows would be." in one_line(dry.stdout)
    mine = ("reencrypt", *BOTH, "--kid", sealer.older.kid)
    assert report_of(run(place, sealer, *mine, "--json"))["dry_run"] is True
    done = run(place, sealer, *mine, "--yes")
    assert "Not looked into: 3 rows of other keys" in one_line(done.stdout)
    left = report_of(run(place, sealer, "inventory", *BOTH, "--json"))
    assert {(group["kid"], group["items"]) for group in left["groups"]} == {
        (sealer.active.kid, 3),
        (other.active.kid, 1),
        (other.older.kid, 2),
    }


def test_a_place_that_cannot_be_had_is_named(
    file: StoreLocation, sealer: Sealer, other: Sealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keys, "_TRIES", 1)
    two_tenants(file, sealer, other)

    def with_place(url: str) -> Result:
        return run(file, sealer, "verify", "--keys", f"env:{KEYS}", "--keys", url)

    gone = with_place(f"file:{tmp_path}/gone")
    assert gone.exit_code == 4
    assert "gone" in gone.output
    unset = with_place("env:NOT_SET_ANYWHERE")
    assert unset.exit_code == 2
    assert "NOT_SET_ANYWHERE" in unset.output
    unknown = with_place("nothing:x")
    assert unknown.exit_code == 2
    assert "nothing:" in unknown.stderr


def test_the_same_place_given_twice_is_one_place(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: rows_of(sealer)})
    done = run(file, sealer, "reencrypt", "--keys", f"env:{KEYS}", "--keys", f"env:{KEYS}", "--json")
    assert (report_of(done)["changed"], report_of(done)["dry_run"]) == (2, False)
