"""Any item through sealing and opening, and through a whole session: it comes back exactly."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from hypothesis import given, settings
from hypothesis import strategies as st

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.core.envelope import Envelope, pack, parse
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions_tests.json_values import bad_items, given_back, items, same
from encrypted_sessions_tests.soak import examples
from encrypted_sessions_tests.stores import PlainSession
from keyproviders.local import StaticKeyProvider

KEY = Key("test", bytes(n * n % 251 for n in range(32)))


@contextlib.contextmanager
def one_loop() -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """One event loop for all examples of a property."""
    loop = asyncio.new_event_loop()
    try:
        yield loop.run_until_complete
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextlib.contextmanager
def a_store(kind: str) -> Iterator[Any]:
    if kind == "plain":
        yield PlainSession("session", [])
        return
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteSession("session", Path(folder, "sessions.db"))
        try:
            yield store
        finally:
            store.close()


async def an_empty_session(store: Any) -> EncryptedSession:
    await store.clear_session()
    return EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(KEY)), ttl=600)


@given(items(), st.integers(0, 2**64 - 1), st.text(min_size=1, max_size=20))
def test_what_is_sealed_opens_exactly(item: dict[str, Any], timestamp: int, session_id: str) -> None:
    cipher = FernetCipher.derive(KEY.secret, session_id)
    found = parse(pack(KEY.kid, cipher.seal(item, timestamp)))
    assert isinstance(found, Envelope)
    assert (found.kid, found.timestamp) == (KEY.kid, timestamp)
    assert same(cipher.opener().open(found), given_back(item))


@given(st.lists(items(), max_size=6))
def test_one_opener_opens_one_token_after_another(batch: list[dict[str, Any]]) -> None:
    cipher = FernetCipher.derive(KEY.secret, "session")
    opener = cipher.opener()
    tokens = [cipher.seal(item, 0) for item in batch]
    assert len(set(tokens)) == len(tokens)  # never the same IV
    for token, item in [*zip(tokens, batch, strict=True), *zip(tokens[::-1], batch[::-1], strict=True)]:
        found = parse(pack(KEY.kid, token))
        assert isinstance(found, Envelope)
        assert same(opener.open(found), given_back(item))


@pytest.mark.parametrize("kind", ["plain", "sqlite"])
def test_what_is_added_comes_back_exactly(kind: str) -> None:
    with a_store(kind) as store, one_loop() as run:

        @settings(max_examples=examples(60))
        @given(st.lists(items(), min_size=1, max_size=4))
        def comes_back(batch: list[Any]) -> None:
            async def use() -> None:
                session = await an_empty_session(store)
                await session.add_items(batch)
                expected = [given_back(item) for item in batch]
                assert same(await session.get_items(), expected)
                assert same(await session.get_items(1), expected[-1:])
                assert same(await session.pop_item(), expected[-1])
                history = await session.read()
                assert same(history.items, expected[:-1])
                assert history.outcomes == {"ok": len(batch) - 1}

            run(use())

        comes_back()


@pytest.mark.parametrize("kind", ["plain", "sqlite"])
def test_of_a_batch_with_anything_else_in_it_nothing_is_written(kind: str) -> None:
    with a_store(kind) as store, one_loop() as run:

        @settings(max_examples=examples(60))
        @given(st.lists(items(), max_size=3), bad_items(), st.lists(items(), max_size=3))
        def is_refused(before: list[Any], bad: Any, after: list[Any]) -> None:
            async def use() -> None:
                session = await an_empty_session(store)
                with pytest.raises(TypeError, match="nothing was written"):
                    await session.add_items([*before, bad, *after])
                assert await store.get_items() == []

            run(use())

        is_refused()


@given(st.lists(items(), min_size=1, max_size=3))
@settings(max_examples=examples(25))
def test_what_compaction_writes_comes_back_exactly(batch: list[Any]) -> None:
    async def use() -> None:
        session = await an_empty_session(PlainSession("session", []))
        await session.add_items([{"role": "user", "content": "before"}] * 3)
        assert await session._atomic_replace_items(batch) is True
        assert same(await session.get_items(), [given_back(item) for item in batch])

    asyncio.run(use())
