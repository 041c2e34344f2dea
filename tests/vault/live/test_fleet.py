"""Three processes, one store, one secret: rotated twice while they talk, then the server stands still."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agents.extensions.memory import SQLAlchemySession

from encrypted_sessions import EncryptedSession
from keyproviders import Key, KeyRing
from keyproviders.vault import VaultKvKeyProvider

MEMBER = Path(__file__).parent / "fleet_member.py"
PATIENCE_S = 60.0


class Member:
    """One process, and what it has said."""

    def __init__(self, name: str, store_url: str, keys_url: str, environment: dict[str, str]) -> None:
        self.name = name
        self.said: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, str(MEMBER), name, store_url, keys_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))

    def order(self, what: str) -> None:
        assert self._process.stdin is not None
        before = len(self.told("obeyed"))
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        if what != "end":
            self.until(lambda: len(self.told("obeyed")) > before)

    def told(self, what: str) -> list[dict[str, Any]]:
        return [one for one in list(self.said) if what in one]

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                raise AssertionError(f"{self.name} ended: {self._process.stderr.read()[-3_000:]}")
            assert time.monotonic() < deadline, f"{self.name} said last: {self.said[-3:]}"
            time.sleep(0.02)

    def until_it_reads_again(self) -> None:
        before = len(self.told("read"))
        self.until(lambda: len(self.told("read")) > before + 1)

    def until_it_wrote_with(self, kid: str) -> None:
        self.until(lambda: any(one["kid"] == kid for one in self.told("wrote")))

    def end(self) -> None:
        self.order("end")
        self._process.wait(30)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._listening.join(10)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def fleet(store_url: str, keys_url: str, environment: dict[str, str]) -> Iterator[list[Member]]:
    members: list[Member] = []
    try:
        members.extend(Member(name, store_url, keys_url, environment) for name in ("a", "b", "c"))
        yield members
    finally:
        for member in members:
            member.close()


def rotate_under(members: list[Member], place: Any) -> Key:
    """A new version, while all talk; returns when each has written with it."""
    for member in members:
        member.until_it_reads_again()
    key: Key = place.write()
    for member in members:
        # Those that come later meet the new version in the store before they write with it.
        member.order("refresh")
        member.until_it_wrote_with(key.kid)
        for other in members:
            other.until_it_reads_again()
    return key


def pause_under(members: list[Member], place: Any, pause_s: float) -> Key:
    """A version that only the first one has seen when the server stops for a long while."""
    first, *others = members
    for member in others:
        member.order("hold")
    key: Key = place.write()
    first.order("refresh")
    first.until_it_wrote_with(key.kid)
    place.server.pause()
    stopped = time.monotonic()
    for member in others:
        member.order("talk")
        member.until(lambda member=member: bool(member.told("unavailable")))
    while time.monotonic() - stopped < pause_s:
        first.until_it_reads_again()
    place.server.resume()
    for member in members:
        member.until_it_reads_again()
        member.end()
    return key


@pytest.mark.long
@pytest.mark.parametrize("pause_s", [8, pytest.param(60, marks=pytest.mark.soak)])
async def test_a_fleet_goes_on_through_two_rotations_and_a_server_that_stands_still(
    stored_place, postgres_url: str, pause_s: float
):
    keys = [stored_place.write()]
    login = dict(stored_place.approle())
    url = (
        f"vault-kv:secret/{stored_place.path}?address={stored_place.server.url}"
        f"&ca_cert={stored_place.server.certificate}&auth=approle&auth_mount={login['auth_mount']}"
        f"&role_id={login['role_id']}"
    )
    store = SQLAlchemySession.from_url("shared", url=postgres_url, create_tables=True)
    await store.clear_session()
    with fleet(postgres_url, url, {"VAULT_SECRET_ID": login["secret_id"]}) as members:
        for member in members:
            member.order("talk")
        keys += [rotate_under(members, stored_place) for _ in range(2)]
        keys.append(pause_under(members, stored_place, pause_s))

    newest = keys[-1]
    for member in members:
        assert member.told("unreadable") == []
        assert all(one["own"] == one["of"] for one in member.told("read"))
        for one in member.told("unavailable"):
            # Asked in vain, or not asked once more after many times in vain.
            assert f"reading version {newest.name} of" in one["unavailable"] or newest.kid in one["unavailable"], one
        # The events of each say which versions it had before it wrote with them.
        fetched = {one["kid"] for one in member.told("event") if one["event"] == "fetched"}
        assert {one["kid"] for one in member.told("wrote")} <= fetched
    assert members[0].told("unavailable") == []

    provider = VaultKvKeyProvider(
        stored_place.path, address=stored_place.server.url, ca_cert=stored_place.server.certificate, **login
    )
    async with KeyRing(provider) as ring:
        items = await EncryptedSession.wrap(store, ring, ttl=3_600).get_items()
    written = sorted(one["wrote"] for member in members for one in member.told("wrote"))
    assert sorted(one["content"] for one in items) == written
    assert {row["kid"] for row in await store.get_items()} == {key.kid for key in keys}
    await store.engine.dispose()
