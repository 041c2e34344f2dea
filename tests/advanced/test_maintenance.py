"""Files with branches, maintained as a whole: moved over, sealed anew, purged, and erased."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import Key, KeyRing
from encrypted_sessions.maintenance import encrypt_plaintext, erase, inventory, purge, reencrypt, verify
from encrypted_sessions.stores import WholeStore
from encrypted_sessions.stores.urls import open_store
from encrypted_sessions_tests.branching import (
    SESSION,
    answer,
    bare,
    call,
    everything_in,
    look,
    output,
    question,
    result,
    sealed,
    select,
    texts,
    turns,
)
from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys

BRANCHES = ("main", "second", "third")


def whole(file: Path) -> WholeStore:
    return open_store(f"sqlite:///{file}")


async def three_branches(session: Any) -> None:
    """Six messages that all have, or two, or one of them alone."""
    await session.add_items([question("hello"), call("weather"), output(), answer("quokka sun")])
    await session.store_run_usage(result(1))
    await session.add_items([question("hello again"), answer("quokka yes")])
    await session.store_run_usage(result(20))
    await session.create_branch_from_turn(2, "second")
    await session.add_items([question("HELLO, second"), call("search", "c2", namespace="crm")])
    await session.store_run_usage(result(300))
    await session.create_branch_from_content("second", "third")
    await session.add_items([{"role": "user", "content": [{"type": "input_text", "text": "hello, third"}]}])
    await session.switch_to_branch("main")


async def everything(session: Any) -> list[dict[str, Any]]:
    return [await look(session, branch) for branch in (None, *BRANCHES)]


async def test_a_plaintext_database_of_three_branches_is_moved_with_all_of_it(file: Path, ring: KeyRing):
    with bare(file) as plain, bare(file, "user-2") as other:
        await three_branches(plain)
        await three_branches(other)
        before, times = await everything(plain), await plain.get_conversation_turns()
    async with whole(file) as store:
        report = await encrypt_plaintext(store, ring)
    assert report.ok
    assert report.changed == 2 * 9  # each message once, however many branches have it
    with sealed(file, ring) as session, sealed(file, ring, "user-2") as other_session:
        assert await everything(session) == await everything(other_session) == before
        assert await session.get_conversation_turns() == times
        await session.create_branch_from_content("hello again", "fourth")
        assert len(await session.get_items()) == 4
        with pytest.raises(ValueError, match="already been used"):
            await session.create_branch_from_turn(1, "third")
        for name, found in everything_in(file).items():
            assert b"quokka" not in found, name


@pytest.fixture
def rotated() -> tuple[KeyRing, KeyRing, Key]:
    """A ring with an old key, and one where that is no longer the active one."""
    old, new = Key.generate("old"), Key.generate("new")
    return KeyRing(ScriptedKeys(old)), KeyRing(ScriptedKeys(new, old)), new


async def test_all_branches_are_sealed_anew_and_nothing_else_changes(file: Path, rotated: tuple[KeyRing, KeyRing, Key]):
    before_ring, after_ring, new = rotated
    with sealed(file, before_ring) as session:
        await three_branches(session)
        before = await everything(session)
    structure = select(file, "SELECT * FROM message_structure")
    async with whole(file) as store:
        report = await reencrypt(store, after_ring)
        assert (report.ok, report.changed) == (True, 9)
        counted = await inventory(store, after_ring)
        assert (await verify(store, after_ring)).ok
    assert {group.kid: group.items for group in counted.groups} == {new.kid: 9}
    assert select(file, "SELECT * FROM message_structure") == structure
    with sealed(file, KeyRing(ScriptedKeys(new))) as session:
        assert await everything(session) == before


async def test_sealing_anew_beneath_a_session_disturbs_no_walk(file: Path, rotated: tuple[KeyRing, KeyRing, Key]):
    before_ring, after_ring, _ = rotated
    with sealed(file, after_ring) as session:
        with sealed(file, before_ring) as old:
            await three_branches(old)
        async with whole(file) as store:
            await reencrypt(store, after_ring)
        assert await session.pop_item() == answer("quokka yes")
        assert await session.get_items(branch_id="third") != []


async def test_what_expired_is_purged_from_all_branches(file: Path, ring: KeyRing, clock: FakeClock):
    clock.now = 1_000_000_000  # long ago by the clock of maintenance
    with sealed(file, ring) as session:
        await three_branches(session)
    clock.now = 4_000_000_000
    async with whole(file) as store:
        assert (await purge(store, ring, ttl=600, dry_run=True)).changed == 9
        assert select(file, "SELECT count(*) FROM message_structure") == [(6 + 6 + 5,)]
        assert (await purge(store, ring, ttl=600)).changed == 9
    for table in ("agent_messages", "message_structure", "turn_usage"):
        assert select(file, f"SELECT * FROM {table}") == []  # noqa: S608
    with sealed(file, ring) as session:
        assert await session.list_branches() == []
        await session.add_items([question("anew")])
        assert await turns(session) == [(1, "anew")]
        for taken in BRANCHES[1:]:
            with pytest.raises(ValueError, match="already been used"):
                await session.create_branch_from_turn(1, taken)


async def test_a_session_is_erased_from_every_table_and_no_other_one_is(file: Path, ring: KeyRing):
    with sealed(file, ring, "to be erased") as session, sealed(file, ring) as other:
        await three_branches(session)
        await three_branches(other)
        before = await everything(other)
    async with whole(file) as store:
        report = await erase(store, ["to be erased"])
    assert report.ok
    assert {table for table, count in report.erased.items() if count} == {
        *("agent_messages", "agent_sessions", "message_structure"),
        *("turn_usage", "branch_reservations", "session_clear_generations"),
    }
    for name, found in everything_in(file).items():
        assert b"to be erased" not in found, name
    with sealed(file, ring) as other, sealed(file, ring, "to be erased") as session:
        assert await everything(other) == before
        assert await session.list_branches() == []
        await three_branches(session)  # whose names are free again
        assert texts(await session.get_items(1)) == ["quokka yes"]


async def test_usage_of_a_session_is_counted_after_it_was_moved(file: Path, ring: KeyRing):
    with bare(file, SESSION) as plain:
        await three_branches(plain)
        expected = await plain.get_session_usage()
    async with whole(file) as store:
        await encrypt_plaintext(store, ring)
    with sealed(file, ring) as session:
        assert await session.get_session_usage() == expected
        await session.add_items([question("more")])
        await session.store_run_usage(result(4000))
        usage = await session.get_session_usage()
        assert usage is not None
        assert expected is not None
        assert usage["input_tokens"] == expected["input_tokens"] + 4000
