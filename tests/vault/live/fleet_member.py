"""One process of a fleet: it talks in a session that others share, and says on its output what happens.

Arguments: its name, the URL of the store, the URL of its keys' provider. Orders come on its input, one a line:
``talk``, ``hold``, ``refresh``, ``end``. What it says is one JSON object a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

from agents.extensions.memory import SQLAlchemySession

from encrypted_sessions import EncryptedSession, UnreadableItemsError
from keyproviders import CachePolicy, KeyRing, KeyUnavailableError, RetryPolicy
from keyproviders.vault import VaultKvKeyProvider

#: Longer than the test: a member sees a new version when it is told to refresh, or when it meets it in the store.
CACHE = CachePolicy(fresh_s=600, miss_memory_s=0.5)
RETRY = RetryPolicy(attempts=2, deadline_s=6, wait_min_s=0.05, wait_max_s=0.1)
BREATH_S = 0.25


#: A ring tells its events from its own threads.
_ONE_LINE = threading.Lock()


def say(**what: Any) -> None:
    with _ONE_LINE:
        print(json.dumps(what), flush=True)  # noqa: T201 - the parent reads it


class Talk:
    """What this process writes and reads."""

    def __init__(self, name: str, session: EncryptedSession, keys: KeyRing) -> None:
        self.name, self.session, self.keys = name, session, keys
        self.count = 0
        self.unread = False

    async def turn(self) -> None:
        """Write one item and read all; what could not be read is read again before more is written."""
        if not self.unread:
            self.count += 1
            await self.session.add_items([{"role": "user", "content": f"{self.name}-{self.count}"}])
            say(wrote=f"{self.name}-{self.count}", kid=(await self.keys.active()).kid)
        try:
            items = await self.session.get_items()
        except UnreadableItemsError as error:
            say(unreadable=dict(error.outcomes))
        except KeyUnavailableError as error:
            self.unread = True
            say(unavailable=str(error))
        else:
            self.unread = False
            own = sum(one["content"].startswith(f"{self.name}-") for one in items)
            say(read=len(items), own=own, of=self.count)


async def next_order(orders: asyncio.Queue[str]) -> str:
    try:
        return await asyncio.wait_for(orders.get(), BREATH_S)
    except (asyncio.TimeoutError, TimeoutError):  # two classes until Python 3.11
        return ""


async def main(name: str, store_url: str, keys_url: str) -> None:
    store = SQLAlchemySession.from_url("shared", url=store_url)
    keys = KeyRing(
        VaultKvKeyProvider.from_url(keys_url),
        cache=CACHE,
        retry=RETRY,
        on_event=lambda event: say(event=event.what, kid=event.kid),
    )
    talk = Talk(name, EncryptedSession.wrap(store, keys, ttl=3_600), keys)
    orders: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(orders.put_nowait, line.strip())

    threading.Thread(target=listen, daemon=True).start()
    talking = False
    while (order := await next_order(orders)) != "end":
        if order == "refresh":
            await keys.refresh()
        talking = order == "talk" or (talking and order != "hold")
        if order:
            say(obeyed=order)
        if talking:
            await talk.turn()
    await keys.aclose()
    await store.engine.dispose()
    say(ended=talk.count)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
