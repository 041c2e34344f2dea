"""`KeyRings`: one ring a tenant, made when it is used, closed when nobody has it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, Key, KeyNotFoundError, KeyProviderError, KeyRing, KeyRings, rings
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import ProviderConfigError, RingHealth
from keyproviders.testing import FakeKeyProvider

HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(rings, "_now", lambda: now[0])
    return now


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tenants whose rings were closed."""
    found: list[str] = []
    first = KeyRing.close

    def noted(ring: KeyRing) -> None:
        found.append(repr(ring).partition(":KEYS_OF_")[2].partition(":")[0])
        first(ring)

    monkeypatch.setattr(KeyRing, "close", noted)
    return found


@pytest.fixture
def url_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    def url_of(tenant: str) -> str:
        monkeypatch.setenv(f"KEYS_OF_{tenant}", Key.generate(f"of-{tenant}").reveal_base64())
        return f"env:KEYS_OF_{tenant}"

    return url_of


async def until(happened: Callable[[], Any]) -> None:
    last = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < last
        await asyncio.sleep(0.01)


async def test_each_tenant_has_keys_of_its_own_and_one_ring(url_of: Callable[[str], str]) -> None:
    async with KeyRings(url_of) as keys:
        rows: dict[str, list[Any]] = {"a": [], "b": []}
        for tenant, stored in rows.items():
            session = await keys.wrap(PlainSession("user-1", stored), tenant, ttl=60, on_unreadable="skip")
            assert isinstance(session, EncryptedSession)
            await session.add_items(HELLO)
            assert await session.get_items() == HELLO
        crossed = await keys.wrap(PlainSession("user-1", rows["a"]), "b", ttl=60)
        assert (await crossed.read()).outcomes["unknown_key"] == 1
        assert (await keys.get("a")).active_sync().kid != (await keys.get("b")).active_sync().kid
        health = keys.health()
        assert {tenant: one.state for tenant, one in health.items()} == {"a": "ok", "b": "ok"}
        assert isinstance(health["a"], RingHealth)


@pytest.mark.parametrize("kind", ["plain", "async", "gives an awaitable", "an object"])
async def test_a_ring_is_made_once_however_many_ask_at_once(kind: str) -> None:
    asked: list[str] = []
    ring = KeyRing(FakeKeyProvider())

    def plain(tenant: str) -> KeyRing:
        asked.append(tenant)
        return ring

    async def later(tenant: str) -> KeyRing:
        await asyncio.sleep(0.01)
        return plain(tenant)

    class Directory:
        async def __call__(self, tenant: str) -> KeyRing:
            return await later(tenant)

    ring_for: Any = {
        "plain": plain,
        "async": later,
        "gives an awaitable": lambda tenant: asyncio.sleep(0.01, plain(tenant)),
        "an object": Directory(),
    }[kind]
    async with KeyRings(ring_for) as keys:
        first = asyncio.ensure_future(keys.get("a"))
        others = [asyncio.ensure_future(keys.get("a")) for _ in range(50)]
        await asyncio.sleep(0)
        first.cancel()  # whoever asked first does not take it from the others
        assert set(await asyncio.gather(*others)) == {ring}
        assert await keys.get("a") is ring
    assert asked == ["a"]
    ring.close()


async def test_a_ring_is_made_once_for_several_event_loops(url_of: Callable[[str], str]) -> None:
    asked: list[str] = []

    def slowly(tenant: str) -> str:
        asked.append(tenant)
        time.sleep(0.05)
        return url_of(tenant)

    keys = KeyRings(slowly)

    async def kid() -> str:
        return (await (await keys.get("a")).active()).kid

    threads = [asyncio.to_thread(lambda: asyncio.run(kid())) for _ in range(4)]
    assert len(set(await asyncio.gather(*threads))) == 1
    assert asked == ["a"]
    await keys.aclose()


async def test_who_waits_on_another_loop_goes_on_when_the_first_ones_loop_ends() -> None:
    waiting, ring = threading.Event(), KeyRing(FakeKeyProvider())

    async def never_at_first(_tenant: str) -> KeyRing:
        if not waiting.is_set():
            waiting.set()
            await asyncio.sleep(60)
        return ring

    keys = KeyRings(never_at_first)

    async def impatient() -> None:
        await asyncio.wait_for(keys.get("a"), 0.1)

    first = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(impatient())))
    await until(waiting.is_set)
    assert await keys.get("a") is ring
    with pytest.raises(asyncio.TimeoutError):
        await first
    await keys.aclose()
    ring.close()


@pytest.mark.parametrize("blocks", [True, False])
async def test_one_that_is_slow_delays_its_tenant_alone(blocks: bool, url_of: Callable[[str], str]) -> None:
    go_on = threading.Event()

    def ring_for(tenant: str) -> Any:
        if not tenant.startswith("slow"):
            return url_of(tenant)
        if blocks:
            go_on.wait(30)
            return url_of(tenant)
        return asyncio.sleep(0.3, url_of(tenant))

    async with KeyRings(ring_for) as keys:
        slow = [asyncio.ensure_future(keys.get(f"slow{number}")) for number in range(40)]
        for tenant in ("a", "b"):
            await keys.get(tenant)
        assert not any(one.done() for one in slow)
        go_on.set()
        assert len({id(ring) for ring in await asyncio.gather(*slow)}) == 40


async def test_a_tenant_that_is_unknown_is_told_by_its_name_and_asked_for_again() -> None:
    known: dict[str, KeyRing] = {}
    async with KeyRings(known.get) as keys:
        with pytest.raises(KeyNotFoundError, match="there is no tenant 'acme'"):
            await keys.wrap(PlainSession("user-1", []), "acme", ttl=60)
        with pytest.raises(KeyNotFoundError) as caught:
            await keys.get("\x1b[31m" + "x" * 10_000)
        assert len(str(caught.value)) < 300
        assert "\x1b" not in str(caught.value)
        known["acme"] = KeyRing.ephemeral()
        assert await keys.get("acme") is known["acme"]


@pytest.mark.parametrize("error", [LookupError("no such row"), StopIteration("odd"), KeyProviderError("directory")])
async def test_what_ring_for_raises_comes_through_to_all_who_wait(error: Exception) -> None:
    def ring_for(_tenant: str) -> KeyRing:
        time.sleep(0.02)
        raise error

    async with KeyRings(ring_for) as keys:
        for raised in await asyncio.gather(*(keys.get("a") for _ in range(3)), return_exceptions=True):
            assert raised is error or (isinstance(error, StopIteration) and isinstance(raised, RuntimeError))
        assert keys.health() == {}


@pytest.mark.parametrize(("given", "kind"), [(b"env:KEYS", TypeError), (5, TypeError), ("no url", ProviderConfigError)])
async def test_what_is_no_ring_and_no_url_is_refused(given: Any, kind: type[Exception]) -> None:
    async with KeyRings(lambda tenant: given) as keys:
        with pytest.raises(kind):
            await keys.get("a")


async def test_a_ring_that_nobody_has_is_closed_when_it_was_not_asked_for_in_a_long_time(
    url_of: Callable[[str], str], closed: list[str], clock: list[float]
) -> None:
    async with KeyRings(url_of, idle_s=600) as keys:
        session = await keys.wrap(PlainSession("user-1", []), "living", ttl=60)
        await keys.get("idle")
        clock[0] += 599
        await keys.get("late")
        assert set(keys.health()) == {"living", "idle", "late"}
        clock[0] += 61
        await keys.get("late")
        await until(lambda: closed == ["idle"])
        await session.add_items(HELLO)
        assert set(keys.health()) == {"living", "late"}
        del session
        gc.collect()
        clock[0] += 61
        await keys.get("late")
        await until(lambda: closed == ["idle", "living"])
        # It is made anew when it is used again.
        await (await keys.wrap(PlainSession("user-1", []), "idle", ttl=60)).add_items(HELLO)


async def test_beyond_max_rings_the_one_that_was_not_asked_for_in_the_longest_time_is_closed(
    url_of: Callable[[str], str], closed: list[str]
) -> None:
    async with KeyRings(url_of, max_rings=2) as keys:
        for tenant in ("a", "b", "a", "c"):
            await keys.get(tenant)
        await until(lambda: closed == ["b"])
        assert set(keys.health()) == {"a", "c"}


async def test_rings_that_living_sessions_have_are_kept_beyond_max_rings_which_is_said_once(
    url_of: Callable[[str], str], closed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with KeyRings(url_of, max_rings=2, idle_s=0) as keys:
        # Whether the session was made by `wrap` or from the ring.
        sessions = [await keys.wrap(PlainSession("user-1", []), tenant, ttl=60) for tenant in "abc"]
        sessions += [EncryptedSession.wrap(PlainSession("user-1", []), await keys.get("d"), ttl=60)]
        for session in sessions:
            await session.add_items(HELLO)
        assert set(keys.health()) == set("abcd")
        said = [record for record in caplog.records if record.name == "encrypted_sessions"]
        assert [(one.levelno, "more than 2 tenants" in one.message) for one in said] == [(logging.WARNING, True)]
        assert closed == []
        del sessions, session
        gc.collect()
        await keys.get("a")
        await until(lambda: sorted(closed) == ["b", "c", "d"])


async def test_a_ring_that_was_given_is_never_closed_and_is_the_same_while_somebody_has_it(
    clock: list[float], closed: list[str]
) -> None:
    made: list[str] = []

    def ring_for(tenant: str) -> KeyRing:
        made.append(tenant)
        return KeyRing(FakeKeyProvider())

    async with KeyRings(ring_for, idle_s=10) as keys:
        ring, _ = await keys.get("a"), await keys.get("b")
        clock[0] += 100
        other = await keys.get("b")
        assert set(keys.health()) == {"b"}
        assert await keys.get("a") is ring
        assert made == ["a", "b"]
    await ring.active()
    assert closed == []
    for one in (ring, other):
        one.close()


async def test_one_user_of_a_ring_cannot_close_it_for_the_others(url_of: Callable[[str], str]) -> None:
    async with KeyRings(url_of) as keys:
        async with await keys.get("a") as ring:
            session = EncryptedSession.wrap(PlainSession("user-1", []), ring, ttl=60)
        ring.close()
        await session.add_items(HELLO)


async def test_closing_ends_all_rings_that_were_opened_and_later_uses_raise(url_of: Callable[[str], str]) -> None:
    keys = KeyRings(url_of)
    session = await keys.wrap(PlainSession("user-1", []), "a", ttl=60)
    opening = asyncio.ensure_future(keys.get("b"))
    await asyncio.sleep(0)
    await keys.aclose()
    await keys.aclose()
    for use in (session.add_items(HELLO), keys.get("a"), opening):
        with pytest.raises(KeyProviderError, match="closed"):
            await use
    assert repr(keys) == "<KeyRings: closed>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(keys)


async def test_its_log_records_have_the_tenant_as_the_name_of_the_ring(
    url_of: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "keyproviders")
    async with KeyRings(url_of) as keys:
        await (await keys.get("tenant_9")).active()
        await until(lambda: caplog.records)
    assert {record.ring for record in caplog.records} == {"tenant_9"}  # type: ignore[attr-defined] # what is tested


async def test_hundreds_of_rings_share_their_threads() -> None:
    os.environ["KEYS_OF_ALL"] = Key.generate().reveal_base64()
    async with KeyRings(lambda _: "env:KEYS_OF_ALL") as keys:
        before = threading.active_count()
        for number in range(300):
            await (await keys.get(f"t{number}")).active()
        await until(lambda: threading.active_count() <= before + 3)
        assert len(keys.health()) == 300
    del os.environ["KEYS_OF_ALL"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_rings_go_through_a_fork(url_of: Callable[[str], str]) -> None:
    keys = KeyRings(url_of)

    async def kid(tenant: str) -> str:
        return (await (await keys.get(tenant)).active()).kid

    before = asyncio.run(kid("a"))
    keys._lock.acquire()  # another thread may have it in the moment of a fork
    child = os.fork()
    if child == 0:
        os._exit(0 if asyncio.run(kid("a")) == before and asyncio.run(kid("b")) else 1)
    keys._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asyncio.run(keys.aclose())


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ({"ring_for": "env:KEYS"}, TypeError, "ring_for must be a function"),
        ({"max_rings": 0}, ValueError, "max_rings must be 1 or more"),
        ({"max_rings": True}, TypeError, "max_rings must be an int"),
        ({"idle_s": -1}, ValueError, "idle_s must be finite and 0 or more"),
        ({"idle_s": "1h"}, TypeError, "idle_s must be a number of seconds"),
    ],
)
def test_every_argument_is_checked_where_it_enters(wrong: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        KeyRings(**{"ring_for": lambda tenant: None, **wrong})


@pytest.mark.parametrize(("tenant", "kind"), [(None, TypeError), (5, TypeError), (b"a", TypeError), ("", ValueError)])
async def test_a_tenant_is_a_str_that_is_not_empty(tenant: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="tenant must"):
        await KeyRings(lambda tenant: None).get(tenant)
