"""A day of a ring over a real server, on short policies: told whole by the fields of its log records, with times."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keyproviders import CachePolicy, KeyProviderError, KeyRing, RetryPolicy
from keyproviders.vault import VaultKvKeyProvider

WRITES_S, GRACE_S = 3.0, 2.0
NOBODY = 'path "secret/data/nothing" { capabilities = ["read"] }'


class Story(logging.Handler):
    """Reads fields and times, and no words."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[float, str, str, float | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "ring", None) == "a day":
            self.told.append((record.created, record.levelname, record.event, record.seconds_left))  # type: ignore[attr-defined] # what is tested

    def chapter(self) -> list[tuple[float, str, str, float | None]]:
        """What was told since the last one, without the lines that repeat the reason."""
        found = [one for one in self.told if one[2] not in {"failed", "refreshed"}]
        self.told.clear()
        return found

    def has(self, event: str) -> bool:
        return any(one[2] == event for one in self.told)


@pytest.fixture
def story() -> Iterator[Story]:
    handler, logger = Story(), logging.getLogger("keyproviders")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


async def until(happened: Callable[[], Any]) -> None:
    last = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < last
        await asyncio.sleep(0.02)


async def back(ring: KeyRing) -> None:
    """The ring asks by itself every ten seconds, and this test does not wait for it."""
    last = time.monotonic() + 30
    while True:
        try:
            await ring.refresh()
        except KeyProviderError:
            assert time.monotonic() < last
            await asyncio.sleep(0.1)
        else:
            return


@pytest.mark.soak
async def test_the_fields_tell_a_day_of_outages_with_their_times(stored_place: Any, story: Story) -> None:
    stored_place.write()
    server = stored_place.server
    provider = VaultKvKeyProvider(
        stored_place.path, address=server.url, ca_cert=server.certificate, token=stored_place.token()
    )
    policy = CachePolicy(fresh_s=1.0, stale_write_s=WRITES_S, denied_grace_s=GRACE_S)
    ring = KeyRing(provider, cache=policy, retry=RetryPolicy(attempts=1), name="a day")
    async with ring:
        stored_place.write()
        await until(lambda: story.has("active_changed"))
        assert [told[1:] for told in story.chapter()] == [
            ("INFO", "fetched", None),
            ("INFO", "active_changed", None),
        ]

        def come_back() -> None:
            server.start()
            server.unseal()

        for end, begin_again in (
            (server.pause, server.resume),
            (server.kill, come_back),
            (stored_place.root.sys.seal, server.unseal),
        ):
            end()  # in this thread: a server ends with the thread that started it
            await until(lambda: story.has("write_ended"))
            assert ring.health().state == "read_only"
            begin_again()
            await back(ring)
            await until(lambda: story.has("recovered"))
            assert ring.health().state == "ok"
            chapter = story.chapter()
            assert [told[1:3] for told in chapter] == [
                ("WARNING", "degraded"),
                ("ERROR", "write_ended"),
                ("INFO", "recovered"),
            ]
            degraded, ended, _ = chapter
            # What was said to be left is what was left.
            assert degraded[3] is not None
            assert ended[0] - degraded[0] == pytest.approx(degraded[3], abs=1)
            assert ended[3] == pytest.approx(86_400 - WRITES_S, abs=1)

        stored_place.allow(NOBODY)
        await until(lambda: story.has("dropped"))
        assert ring.health().state == "down"
        stored_place.allow()
        await back(ring)
        await until(lambda: story.has("recovered"))
        chapter = story.chapter()
        assert [told[1:3] for told in chapter] == [
            ("ERROR", "denied"),
            ("ERROR", "write_ended"),
            ("ERROR", "dropped"),
            ("INFO", "recovered"),
        ]
        assert chapter[0][3] == pytest.approx(GRACE_S, abs=0.1)
        assert chapter[1][0] - chapter[0][0] == pytest.approx(GRACE_S, abs=1)
