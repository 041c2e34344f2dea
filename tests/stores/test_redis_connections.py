"""Redis by TLS alone, and the primary that a Sentinel names: what the kind of connection means for a session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.exceptions
from agents.extensions.memory import RedisSession
from redis.asyncio.sentinel import Sentinel

from encrypted_sessions import StoreError, StoreUnavailableError
from encrypted_sessions.maintenance import inventory
from encrypted_sessions.stores import RowStore, store_beneath
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.redis_servers import WATCHED, TlsRedisServer, WatchedRedis, make_certificates
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.servers import Server, free_port
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import whole

UNTRUSTED = "Its certificate is not trusted here: tell the driver which authority signed it"


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer(SESSION)
    yield sealer
    sealer.ring.close()


# -- TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured(_redis: Server) -> Iterator[TlsRedisServer]:  # which skips where there is no Redis
    with TlsRedisServer() as server:
        yield server


def place_at(url: str) -> StoreLocation:
    return StoreLocation("redis", url, "t")


@pytest.fixture(params=["an unknown authority", "another authority", "another name"])
def untrusted(request: pytest.FixtureRequest, secured: TlsRedisServer, tmp_path: Path) -> StoreLocation:
    if request.param == "an unknown authority":
        return place_at(secured.tls_url)
    if request.param == "another name":
        return place_at(secured.trusted_url.replace("127.0.0.1", "localhost"))
    make_certificates(tmp_path / "authority.pem", tmp_path / "server.pem", tmp_path / "server.key")
    return place_at(f"{secured.tls_url}?ssl_ca_certs={tmp_path / 'authority.pem'}")


async def test_a_certificate_that_is_not_trusted_is_refused_by_sessions(untrusted: StoreLocation, sealer: Sealer):
    async with sealer.session(untrusted) as session:
        for use in (session.get_items, session.pop_item, lambda: session.add_items([message("one")])):
            with pytest.raises(StoreError, match=UNTRUSTED) as raised:
                await use()
            assert not isinstance(raised.value, StoreUnavailableError)  # waiting does not mend it
            assert isinstance(raised.value, redis.exceptions.ConnectionError)


async def test_a_certificate_that_is_not_trusted_is_refused_by_commands(untrusted: StoreLocation, sealer: Sealer):
    with pytest.raises(StoreError, match=UNTRUSTED) as raised:
        async with whole(untrusted) as store:
            await inventory(store, sealer.ring)
    assert not isinstance(raised.value, StoreUnavailableError)


async def test_a_password_that_is_refused_is_told_as_such(secured: TlsRedisServer, sealer: Sealer):
    place = place_at(secured.url.replace("redis://", "redis://somebody:wrong@"))
    async with sealer.session(place) as session:
        with pytest.raises(StoreError, match="Check the user and the password"):
            await session.get_items()
    with pytest.raises(StoreError, match="Check the user and the password"):
        async with whole(place) as store:
            await inventory(store, sealer.ring)


async def test_a_server_that_speaks_no_tls_is_an_outage(secured: TlsRedisServer, sealer: Sealer):
    """Nothing is sent in plain to where TLS was asked for."""
    place = place_at(f"{secured.url.replace('redis://', 'rediss://')}?socket_connect_timeout=0.3")
    async with sealer.session(place) as session:
        with pytest.raises(StoreUnavailableError, match="Try again when it answers"):
            await session.get_items()


# -- Sentinel ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_redis")  # which skips where there is no Redis
async def test_a_primary_that_is_made_a_replica_is_left_for_the_new_one(sealer: Sealer):
    """It is there and answers, but takes no changes: no call makes one by halves, and none is made twice."""
    items = [message(str(number)) for number in range(300)]
    with WatchedRedis() as servers:
        place = StoreLocation("redis-sentinel", servers.url, "t")
        async with sealer.session(place) as session:
            await session.add_items(items)  # type: ignore[arg-type]
            with redis.Redis.from_url(servers.primary_url) as client:
                client.incr("settled")
                assert client.wait(1, 5_000) == 1
            servers.demote_primary()
            popped: list[str] = []
            left_to_pop = 5  # once the other one is the primary
            while left_to_pop:
                left_to_pop -= servers.has_failed_over()
                try:
                    popped += texts([await session.pop_item()])
                except StoreError as error:
                    assert "try again" in str(error).lower()  # noqa: PT017 - it need not come to that
                await asyncio.sleep(0.01)
            left = texts(await session.get_items())
    assert left == [str(number) for number in range(len(left))]
    # What the former primary has removed, and has told nobody, comes once more.
    assert set(popped) | set(left) == {str(number) for number in range(300)}
    assert [int(text) for text in popped[-3:]] == [len(left) + 2, len(left) + 1, len(left)]


async def test_a_pop_waits_for_nobody_at_another_sentinel_whose_service_has_the_same_name():
    """These two never connect."""
    places: list[object] = []
    for sentinel in [Sentinel([("127.0.0.1", free_port())]) for _ in range(2)]:
        for _ in range(2):
            rows = store_beneath(RedisSession(SESSION, redis_client=sentinel.master_for(WATCHED)))
            assert isinstance(rows, RowStore)
            places.append(rows.place())
    assert places[0] == places[1] != places[2] == places[3]
