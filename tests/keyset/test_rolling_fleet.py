"""A fleet that goes from 0.1.0 to this release, over one store and one keyset, through `keys upgrade` at its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from encrypted_sessions import EncryptedSession
from encrypted_sessions_tests.keyset_fixture import DELAY_S, KeysetFixture
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import KeyRing, ProviderConfigError
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetManager, KeysetStore, StoredKeyset
from keyproviders.keyset.stores.sql import SqlKeysetStore

DATA = Path(__file__).parent / "data"
KEYSET_0_1_0 = (DATA / "keyset-0.1.0.json").read_text()
ROWS_0_1_0 = json.loads((DATA / "rows-0.1.0.json").read_text())
ITEMS_0_1_0 = [{"role": "user", "content": f"sealed with {name}"} for name in ("first", "second", "third")]

TOP_0_1_0 = ["format", "keyset", "activation_delay_s", "keys"]
KEY_0_1_0 = {
    "usable": ["name", "state", "created_at", "activate_at", "kek", "wrapped"],
    "retired": ["name", "state", "created_at", "activate_at", "retired_at", "kek", "wrapped"],
    "destroyed": ["name", "state", "created_at", "activate_at", "retired_at", "destroyed_at", "kek"],
}


class Of010:
    """A store as a process of 0.1.0 sees it: what its parser refuses is refused, in its words.

    It knows format 1 and no other, and of that exactly these fields. What a process of this release
    writes in format 1 has to pass here, and what is written through here is of format 1.
    """

    def __init__(self, store: KeysetStore) -> None:
        self._store = store
        self.place = store.place

    def read(self, name: str) -> StoredKeyset | None:
        stored = self._store.read(name)
        if stored is not None:
            self._check(stored.text)
        return stored

    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        self._check(text)
        return self._store.write(name, text, expected=expected)

    def _check(self, text: str) -> None:
        top = json.loads(text)
        if top["format"] != 1:
            raise ProviderConfigError(
                f"is of format {top['format']}, and this release knows format 1; install the release that wrote it"
            )
        assert list(top) == TOP_0_1_0
        for key in top["keys"]:
            assert list(key) == KEY_0_1_0[key["state"]]
        assert text == json.dumps(top, indent=2) + "\n"


@pytest.fixture(params=["file", "sqlite", "postgresql", "mariadb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeysetStore]:
    if request.param == "file":
        yield FileKeysetStore(tmp_path / "keyset.json")
        return
    fixtures = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}
    of_server = fixtures.get(request.param)
    dsn = request.getfixturevalue(of_server) if of_server else f"sqlite:///{tmp_path / 'keysets.db'}"
    table = "rolling_fleet"
    store = SqlKeysetStore(dsn, table=table)
    yield store
    store.close()
    engine = sqlalchemy.create_engine(dsn.replace("asyncpg", "psycopg"), poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")


async def test_nothing_is_unreadable_while_a_fleet_goes_from_0_1_0_to_this_release(store: KeysetStore) -> None:
    assert store.write("default", KEYSET_0_1_0, expected=None)
    new = KeysetFixture.of(store)
    old_manager = KeysetManager(new.wrapper, Of010(store), clock=new.clock)
    rows = PlainSession("user-123", [json.dumps(row) for row in ROWS_0_1_0])
    items: list[Any] = list(ITEMS_0_1_0)

    def ring(of: KeysetStore, **options: Any) -> KeyRing:
        return KeyRing(KeysetKeyProvider(new.wrapper, of, clock=new.clock, **options), clock=new.clock)

    async with AsyncExitStack() as stack:
        old = [await stack.enter_async_context(ring(Of010(store))) for _ in range(2)]
        fleet = [*old, await stack.enter_async_context(ring(store))]

        async def serve(when: str) -> None:
            """Each process writes, and each reads all that was ever written."""
            for at, one in enumerate(fleet):
                await one.refresh()
                item = {"role": "user", "content": f"{when}, process {at}"}
                await EncryptedSession.wrap(rows, one, ttl=None).add_items([item])  # type: ignore[list-item]
                items.append(item)
            for one in fleet:
                assert await EncryptedSession.wrap(rows, one, ttl=None).get_items() == items

        await serve("both releases")
        # Whichever release changes the keyset, the other one goes on.
        old_manager.rotate(key_name="by-0.1.0", now=True)
        await serve("0.1.0 rotated")
        new.manager.rotate(key_name="by-this")
        new.later(DELAY_S)
        await serve("this release rotated")
        new.manager.rewrap()
        await serve("this release rewrapped")
        old_manager.rewrap()
        new.later(DELAY_S)
        new.manager.retire("by-0.1.0")
        new.manager.restore("by-0.1.0")
        await serve("retired and restored")

        # The last process of 0.1.0 ends, and only then the keyset moves.
        fleet[:2] = [await stack.enter_async_context(ring(store)) for _ in range(2)]
        await serve("this release alone")
        done = new.manager.upgrade()
        await serve("upgraded")
        fleet.append(await stack.enter_async_context(ring(store, keyset_id=done.id)))
        await serve("with the id in the URL")
        new.manager.rotate(key_name="last", now=True)
        await serve("rotated with an id")

        # One of 0.1.0 that was overlooked is told what to do, holds its keys, and has nothing of its own destroyed.
        late = old[0]
        with pytest.raises(ProviderConfigError, match="install the release that wrote it"):
            await late.refresh()
        assert (await late.active()).name == "by-this"
        with pytest.raises(ProviderConfigError, match="of format 2, and this release knows format 1"):
            old_manager.rotate()


async def test_what_0_1_0_wrote_is_read_before_and_after_the_upgrade(store: KeysetStore) -> None:
    assert store.write("default", KEYSET_0_1_0, expected=None)
    setting = KeysetFixture.of(store)
    for upgrade in (False, True):
        if upgrade:
            setting.manager.upgrade()
        async with KeyRing(setting.provider()) as ring:
            session = EncryptedSession.wrap(
                PlainSession("user-123", [json.dumps(row) for row in ROWS_0_1_0]), ring, ttl=None
            )
            assert await session.get_items() == ITEMS_0_1_0
