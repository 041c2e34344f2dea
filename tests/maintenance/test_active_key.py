"""A run whose active key changes in its midst, or that is to move away from a key that needs no moving."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from encrypted_sessions import Key
from encrypted_sessions.maintenance import encrypt_plaintext, reencrypt
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole


class RotatingKeys(ScriptedKeys):
    def activate(self, key: Key) -> None:
        self._active = key


async def kids(place: StoreLocation) -> set[str]:
    return {json.loads(row)["kid"] for row in await raw_rows(place, SESSION)}


@pytest.mark.parametrize("command", [reencrypt, encrypt_plaintext])
async def test_a_key_that_changes_in_the_midst_is_said_and_the_next_run_moves_the_rest(
    file: StoreLocation, sealer: Sealer, command: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
):
    rows = [sealer.row(message(str(n)), sealer.older) for n in range(20)]
    plain = [json.dumps(message(str(n))) for n in range(20)]
    await fill(file, {SESSION: rows if command is reencrypt else plain})
    newer = Key.generate("newer")
    keys = RotatingKeys(sealer.active, sealer.older, newer)
    pages = 0

    async def rotate_at_the_third(store: Any, block: Any, after: Any, count: int) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            keys.activate(newer)
            await ring.refresh()
        return await original(store, block, after, count)

    async with impatient_ring(keys) as ring, whole(file) as store:
        original = type(store).rows
        monkeypatch.setattr(type(store), "rows", rotate_at_the_third)
        report = await command(store, ring, batch=5)
        assert (report.to_kid, report.changed, report.ok) == (newer.kid, 20, False)
        assert list(report.left) == ["former_key"]
        assert await kids(file) == {sealer.active.kid, newer.kid}
        before = [json.loads(row)["kid"] for row in await raw_rows(file, SESSION)].count(sealer.active.kid)
        assert report.left["former_key"] == before > 0
        again = await reencrypt(store, ring, batch=5)
        assert (again.changed, again.ok) == (before, True)
        assert await kids(file) == {newer.kid}


async def test_to_move_away_from_the_active_key_or_from_one_that_no_row_names_is_said(
    file: StoreLocation, sealer: Sealer
):
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring, from_kid=sealer.active.kid)
        assert report.notices[0].startswith(f"{sealer.active.kid} is the active key")
        report = await reencrypt(store, sealer.ring, from_kid=sealer.older.kid)
        assert report.notices[0].startswith(f"no row names {sealer.older.kid}")
        await fill(file, {"other": [sealer.row(message("b"), sealer.older)]})
        report = await reencrypt(store, sealer.ring, from_kid=sealer.older.kid)
        assert report.notices == ()


async def test_rows_that_named_the_key_which_was_active_when_they_were_looked_at_are_looked_at_again(sealer: Sealer):
    newer = Key.generate("newer")
    keys = RotatingKeys(sealer.active, newer)
    store = MemoryStore(SESSION, [sealer.ok(str(n)) for n in range(30)])

    async def rotate(call: str) -> None:
        if call == "rows":
            keys.activate(newer)
            await ring.refresh()

    store.before = rotate
    async with impatient_ring(keys) as ring:
        report = await reencrypt(store, ring)
    assert (report.found, report.changed, report.already) == ({"ok": 30}, 30, 0)
    assert {json.loads(row)["kid"] for row in store.data.values()} == {newer.kid}
