"""A Redis that answers with anything: no content comes of it but what was sealed, and no call goes on without end.

It speaks the protocol, and lies in what it says: other types, huge strings, positions that make no sense.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agents.extensions.memory import RedisSession

from encrypted_sessions import EncryptedSession
from encrypted_sessions.history import sealed_history
from encrypted_sessions.maintenance import inventory, open_store, purge, verify
from encrypted_sessions_tests.leaks import Net
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message

SAID = "what was sealed"

Answer = Callable[[list[bytes]], bytes]


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(*parts: bytes) -> bytes:
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


#: What a client asks before it works, and the answers of a Redis that speaks RESP3.
GREETINGS = {
    b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n",
    b"CLIENT": b"+OK\r\n",
    b"SELECT": b"+OK\r\n",
    b"INFO": b"$0\r\n\r\n",
}


async def command_of(reader: asyncio.StreamReader) -> list[bytes]:
    """The next command of a client, which is an array of strings."""
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


@asynccontextmanager
async def redis_that_says(answer: Answer) -> AsyncIterator[str]:
    """The URL of a server that greets as Redis does, and leaves the rest to `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                words = await command_of(reader)
                word = words[0].upper()
                writer.write(GREETINGS[word] if word in GREETINGS else answer(words))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.close()


def page_of(*elements: bytes, newest: bytes | None = None, wanted: bytes | None = None) -> bytes:
    """A page of these elements, the newest first, with a lie where one is given."""
    count = len(elements)
    return array(
        b":%d\r\n" % (count - 1) if newest is None else newest,
        array(*map(bulk, elements)),
        b":%d\r\n" % count if wanted is None else wanted,
    )


#: What a server may say to a script that asks for a page: the position of the newest element, the elements from there
#: on, and how many they would be if all had room in a page.
PAGES: dict[str, Callable[[bytes], bytes]] = {
    "as it should be": page_of,
    "a number": lambda good: b":1\r\n",
    "nothing": lambda good: b"$-1\r\n",
    "no array": lambda good: b"*-1\r\n",
    "an empty array": lambda good: array(),
    "an error": lambda good: b"-ERR something else\r\n",
    "of another type": lambda good: b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "a text": lambda good: bulk(b"\x1b[2J" + b"x" * 100_000),
    "a row as a text": bulk,
    "one part": lambda good: array(b":0\r\n"),
    "four parts": lambda good: array(b":0\r\n", array(bulk(good)), b":1\r\n", b":5\r\n"),
    "a position that is no number": lambda good: page_of(good, newest=bulk(b"first")),
    "no position": lambda good: page_of(good, newest=b"$-1\r\n"),
    "a position below zero": lambda good: page_of(good, newest=b":-7\r\n"),
    "a position beyond all numbers": lambda good: page_of(good, good, newest=b":9223372036854775807\r\n"),
    "a position that may be a float": lambda good: page_of(good, newest=bulk(b"1.5")),
    "elements that are numbers": lambda good: array(b":1\r\n", array(b":5\r\n", b":6\r\n"), b":2\r\n"),
    "an element that is an array": lambda good: array(b":1\r\n", array(array(bulk(good)), bulk(good)), b":2\r\n"),
    "elements that are no array": lambda good: array(b":0\r\n", bulk(good), b":1\r\n"),
    "a huge element": lambda good: page_of(b"x" * 5_000_000),
    "a huge envelope": lambda good: page_of(good[:-2] + b"A" * 5_000_000 + b'"}'),
    "many empty elements": lambda good: page_of(*[b""] * 50),
    "more than was asked for": lambda good: page_of(*[good] * 300),
    "more to come than there is": lambda good: page_of(good, wanted=b":5\r\n"),
    "nothing, and more to come": lambda good: page_of(wanted=b":5\r\n"),
    "less than there is": lambda good: page_of(good, good, wanted=b":-1\r\n"),
    "no number of what there is": lambda good: page_of(good, wanted=bulk(b"many")),
    "a string that never ends": lambda good: b"*3\r\n:0\r\n*1\r\n$99999999999\r\nabc",
    "half an answer": lambda good: b"*3\r\n:0\r\n*1\r\n$",
    "no protocol": lambda good: b"HTTP/1.1 200 OK\r\n\r\n",
}


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer()
    yield sealer
    sealer.ring.close()


async def what_comes_of(use: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives, within a time; None where it raises, with what an error may say."""
    try:
        return await asyncio.wait_for(use(), 20)
    except asyncio.TimeoutError:  # the client's own has another class
        pytest.fail("it went on without end")
    except Exception as error:  # noqa: BLE001 - whatever a client makes of such an answer
        said = str(error)
    assert SAID not in said
    assert "\x1b" not in said
    return None


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
async def test_whatever_a_session_hears_nothing_comes_of_it_but_what_was_sealed(
    page: Callable[[bytes], bytes], sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_history, "_ATTEMPTS", 5)  # of a history that moves beneath each look
    good = sealer.ok(SAID).encode()

    def answer(words: list[bytes]) -> bytes:
        if words[0] != b"EVAL":
            return b"-ERR no\r\n"
        # A change is said to have been made, whatever it was.
        return b":1\r\n" if b"LREM" in words[1] or b"LTRIM" in words[1] else page(good)

    async with redis_that_says(answer) as url:
        store = RedisSession.from_url(SESSION, url=url, redis_kwargs={"socket_timeout": 0.5})
        try:
            session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, max_row_bytes=2**20)
            items = [*(await what_comes_of(session.get_items) or [])]
            history = await what_comes_of(session.read)
            if history is not None:
                assert len(history.items) == history.outcomes["ok"]
                items += history.items
            items += [item for item in [await what_comes_of(session.pop_item)] if item is not None]
            assert await what_comes_of(session.purge_expired) in (None, 0)
        finally:
            await store.close()
    assert all(item == message(SAID) for item in items)
    if page is PAGES["as it should be"]:
        assert len(items) == 3


#: What a command over the whole store asks, and one lie for each: the rest is answered as it should be.
LIES: dict[str, tuple[bytes, bytes]] = {
    "no lie": (b"NOTHING", b""),
    "keys that are numbers": (b"SCAN", array(bulk(b"0"), array(b":1\r\n", b":2\r\n"))),
    "keys of others": (b"SCAN", array(bulk(b"0"), array(bulk(b"\x1b]0;title\x07:messages"), bulk(b"")))),
    "no keys": (b"SCAN", b":0\r\n"),
    "a cursor that is no number": (b"SCAN", array(bulk(b"next"), array(bulk(b"p:user-1:messages")))),
    "a length that is a text": (b"LLEN", bulk(b"many")),
    "a length below zero": (b"LLEN", b":-5\r\n"),
    "a length that is much too large": (b"LLEN", b":100000\r\n"),
    "an owner that is a number": (b"HGET", b":5\r\n"),
    "a size that is a text": (b"MEMORY", bulk(b"large")),
    "a size below zero": (b"MEMORY", b":-9\r\n"),
    "a size beyond the page": (b"MEMORY", b":999999999999\r\n"),
    "rows that are numbers": (b"LRANGE", array(b":1\r\n", b":2\r\n")),
    "rows that are an array": (b"LRANGE", array(array(bulk(b"{}")), array())),
    "rows that are a text": (b"LRANGE", bulk(b"{}" * 1_000)),
    "more rows than there are": (b"LRANGE", array(*[bulk(b"{}")] * 5_000)),
    "a part that is no part": (b"EVAL", b":1\r\n"),
    "a part of numbers": (b"EVAL", array(b":0\r\n", array(b":5\r\n"))),
    "a time that is none": (b"TIME", array(bulk(b"now"), bulk(b"then"))),
    "a clock of another time": (b"TIME", array(bulk(b"5"), bulk(b"0"))),
}


@pytest.mark.parametrize(("command", "lie"), LIES.values(), ids=LIES)
async def test_whatever_a_command_hears_it_ends_and_tells_no_content(
    command: bytes, lie: bytes, sealer: Sealer, net: Net
) -> None:
    good = sealer.ok(net.text.text).encode()
    truth = {
        b"SCAN": array(bulk(b"0"), array(bulk(b"p:user-1:messages"))),
        b"LLEN": b":2\r\n",
        b"HGET": bulk(b"user-1"),
        b"MEMORY": b":1000\r\n",
        b"LRANGE": array(bulk(good), bulk(good)),
        b"DBSIZE": b":2\r\n",
        b"TIME": array(bulk(b"%d" % time.time()), bulk(b"0")),
        b"EVAL": array(b":1\r\n", array(bulk(good), bulk(good))),
        b"UNLINK": b":1\r\n",
    }
    if command == b"EVAL":
        truth[b"MEMORY"] = b":999999999999\r\n"  # so that it reads by the script

    def answer(words: list[bytes]) -> bytes:
        word = words[0].upper()
        return lie if word == command else truth.get(word, b"-ERR no\r\n")

    async with redis_that_says(answer) as url:
        for operation in (inventory, verify, functools.partial(purge, ttl=TTL)):

            async def use(operation: Any = operation) -> Any:
                async with open_store(url, key_prefix="p") as store:
                    return await operation(store, sealer.ring)

            report = await what_comes_of(use)
            net.see(report)
            if command == b"NOTHING":
                assert report is not None
                assert report.seen == 2
