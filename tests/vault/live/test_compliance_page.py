"""The lines of the page for auditors that are about a keyset, typed as they stand there, with a real server."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from agents import SQLiteSession

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions_tests.documents import ROOT
from encrypted_sessions_tests.runbooks import Shell, block_under

PAGE = ROOT / "docs" / "compliance.md"


class Service:
    """A keyset, a store with a row under its key, and a shell beside them."""

    def __init__(self, folder: Path, transit, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        for name, text in (("VAULT_ADDR", transit.server.url), ("VAULT_TOKEN", transit.server.root_token)):
            monkeypatch.setenv(name, text)
        self._url = f"vault-transit:agents?mount={transit.mount}&keyset=file:"
        self.url = f"{self._url}{folder / 'keyset.json'}"
        self.shell = Shell(folder, SESSIONS_URL="sqlite:///agents.db", ENCRYPTED_SESSIONS_KEYS=self.url)
        said = self.shell.run(f"encrypted-sessions keys create '{self.url}' --key-name k1 --json")
        self.keyset_id = re.search(r"[0-9a-f]{32}", said)[0]

    def restored(self) -> str:
        return f"{self._url}$PWD/drill/keyset.json&keyset_id={self.keyset_id}"

    async def add(self, content: str) -> str:
        """Write an item; gives the key id of the key that sealed it."""
        store = SQLiteSession("user-123", self.folder / "agents.db")
        async with KeyRing.from_url(self.url) as keys:
            await EncryptedSession.wrap(store, keys, ttl=86_400).add_items([{"role": "user", "content": content}])
            (row,) = await store.get_items(1)
        store.close()
        return row["kid"]


@pytest.fixture
def service(tmp_path: Path, transit, monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(tmp_path, transit, monkeypatch)


async def test_no_row_needs_a_key_any_more_that_somebody_else_may_have(service: Service):
    old = await service.add("before")
    script = block_under(PAGE, "A key that somebody else may have")
    assert len(script.splitlines()) == 5
    said = service.shell.run(f"export OLD={old}\n{script}")
    assert "case 4712: key may be known" in said
    new = await service.add("after")
    assert new != old
    report = json.loads(service.shell.run("encrypted-sessions inventory env:SESSIONS_URL --json | tail -n 1"))
    assert [one["kid"] for one in report["keys"] if one["needed_by"]] == [new]


async def test_the_drill_opens_a_restored_store_with_the_copy_of_a_keyset(service: Service):
    await service.add("one")
    (service.folder / "drill").mkdir()
    for name in ("agents.db", "keyset.json"):
        shutil.move(service.folder / name, service.folder / "drill" / name)
    script = block_under(PAGE, "Recovery of keys, and a drill")
    own = script.replace("file:$PWD/drill/session-keys", service.restored())
    assert own != script
    service.shell.run(own)
    assert json.loads((service.folder / "drill.json").read_text())["found"] == {"ok": 1}
