"""A ring over a provider: what it asks for, what it holds, and what it says when there is no key."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyEvent,
    KeyNotFoundError,
    KeyProviderError,
    KeyRing,
    KeyUnavailableError,
    RetryPolicy,
)
from keyproviders.local import StaticKeyProvider

A, B, C = (Key.generate(name) for name in ("a", "b", "c"))
ONCE = RetryPolicy(attempts=1, deadline_s=30)


class Place:
    """A provider that holds keys, counts what it is asked, and can be told to fail or to wait."""

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)
        self.asked: list[str] = []
        self.error: BaseException | None = None
        self.open = threading.Event()
        self.open.set()
        self.closed = 0

    def _answer(self, question: str, find: Callable[[], Key | None]) -> Key:
        self.asked.append(question)
        self.open.wait(60)
        if self.error is not None:
            raise self.error
        key = find()
        if key is None:
            raise KeyNotFoundError(f"the place has no {question}")
        return key

    def active(self) -> Key:
        return self._answer("active", lambda: self.keys[0])

    def get(self, name: str) -> Key:
        return self._answer(name, lambda: next((key for key in self.keys if name in (key.name, key.fingerprint)), None))

    def close(self) -> None:
        self.closed += 1


def ring_of(place: object, **kwargs: object) -> KeyRing:
    return KeyRing(place, **{"retry": ONCE, **kwargs})  # type: ignore[arg-type] # tests pass what they like


async def test_the_active_key_is_fetched_once_and_held() -> None:
    place = Place(A, B)
    async with ring_of(place) as ring:
        assert [await ring.active() for _ in range(5)] == [A] * 5
        assert ring.active_sync() is A
        assert await ring.get(A.kid) is A
    assert place.asked == ["active"]


async def test_an_older_key_is_asked_for_by_its_name_once() -> None:
    place = Place(A, B)
    async with ring_of(place) as ring:
        assert [await ring.get(B.kid) for _ in range(5)] == [B] * 5
        assert ring.get_sync(B.kid) is B
    assert place.asked == ["active", "b"]


async def test_a_key_without_a_name_is_asked_for_by_its_fingerprint() -> None:
    nameless = Key(None, B.secret)
    place = Place(A, nameless)
    async with ring_of(place) as ring:
        assert await ring.get(nameless.kid) is nameless
    assert place.asked == ["active", nameless.fingerprint]


async def test_a_held_key_is_found_by_its_fingerprint_alone() -> None:
    place = Place(A)
    async with ring_of(place) as ring:
        assert await ring.get(f"~{A.fingerprint}") is A
    assert place.asked == ["active"]


async def test_a_held_key_under_an_unknown_name_is_not_found_and_the_message_says_what_to_list() -> None:
    async with ring_of(Place(A)) as ring:
        with pytest.raises(KeyNotFoundError, match=rf"held as {A.kid}; .* list the key under the name 'former' too"):
            await ring.get(f"former~{A.fingerprint}")


async def test_a_key_that_a_place_finds_by_another_name_than_it_was_asked_for_is_not_found() -> None:
    # A name that looks like the fingerprint.
    async with ring_of(StaticKeyProvider(A, B)) as ring:
        with pytest.raises(KeyNotFoundError):
            await ring.get(f"{B.fingerprint}~{B.fingerprint}")


async def test_the_same_bytes_under_several_names_are_one_key_with_several_kids() -> None:
    again, plain = Key("again", A.secret), Key(None, A.secret)
    async with ring_of(Place(A, again)) as ring:
        assert await ring.get(again.kid) is again
        assert await ring.get(A.kid) is A
        assert set(ring.health().held) == {A.kid, again.kid}
        assert (await ring.get(plain.kid)).secret == A.secret


# Found by trying: the first 8 digits of their fingerprints are the same.
TWINS = [Key(name, number.to_bytes(32, "big")) for name, number in (("one", 39_554), ("two", 63_540))]
WEAK_TWINS = pytest.mark.filterwarnings("ignore::keyproviders.WeakKeyWarning")  # which nearly all zeros are


@WEAK_TWINS
async def test_two_different_keys_of_one_fingerprint_are_refused_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    one, two = TWINS
    assert one.fingerprint == two.fingerprint
    async with ring_of(Place(one, two)) as ring:
        for _ in range(2):
            with pytest.raises(InvalidKeyError, match=f"{one.kid} and {two.kid}"):
                await ring.get(two.kid)
        assert await ring.get(one.kid) is one
    assert any(record.levelno == logging.ERROR and two.kid in record.message for record in caplog.records)
    with pytest.raises(InvalidKeyError, match="keys 1 and 2 are different keys with the same fingerprint"):
        StaticKeyProvider(one, two)


@WEAK_TWINS
async def test_an_active_key_with_the_fingerprint_of_another_one_is_refused_and_the_former_coasts() -> None:
    one, two = TWINS
    place = Place(one)
    async with ring_of(place) as ring:
        place.keys = [two]
        with pytest.raises(InvalidKeyError, match="two different keys with the same fingerprint"):
            await ring.refresh()
        assert await ring.active() is one


def test_nothing_is_asked_before_the_first_use() -> None:
    place = Place(A)
    ring = ring_of(place)
    assert ring.health().can_write is False
    assert place.asked == []
    ring.close()


@pytest.mark.parametrize("kid", ["", "hkdf-v1", "a", "a~xyz", "~"])
async def test_what_is_no_kid_is_not_found_without_asking(kid: str) -> None:
    place = Place(A)
    async with ring_of(place) as ring:
        with pytest.raises(KeyNotFoundError, match="not the public id of a key"):
            await ring.get(kid)
    assert place.asked == ["active"]


@pytest.mark.parametrize("kid", [None, 5, b"a~01234567", ["a~01234567"]])
async def test_a_kid_that_is_no_str_is_a_type_error(kid: object) -> None:
    async with ring_of(Place(A)) as ring:
        with pytest.raises(TypeError, match="kid must be a str"):
            await ring.get(kid)  # type: ignore[arg-type] # what is tested


async def test_made_up_fingerprints_under_a_real_name_are_warned_of_once_a_name_and_cost_one_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Place(A, Key("b", C.secret))
    async with ring_of(place) as ring:
        for number in range(64):
            with pytest.raises(KeyNotFoundError, match="this name now means another key") as caught:
                await ring.get(f"b~{number:08x}")
            assert "add the former key" not in str(caught.value)
    told = [record for record in caplog.records if "now means another key" in record.message]
    assert [record.levelno for record in told if record.levelno > logging.INFO] == [logging.WARNING]
    assert place.asked == ["active", "b"]


async def test_a_key_replaced_in_place_under_the_active_name_is_an_error_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[KeyEvent] = []
    place = Place(A)
    async with ring_of(place, on_event=events.append) as ring:
        place.keys = [Key("a", B.secret)]
        await ring.refresh()
    replaced = [event for event in events if event.what == "replaced"]
    assert [event.kid for event in replaced] == [f"a~{B.fingerprint}"]
    assert f"meant the key {A.kid}" in replaced[0].message
    assert "add the former key under a name of its own" in replaced[0].message
    assert any(record.levelno == logging.ERROR and record.message == replaced[0].message for record in caplog.records)


async def test_the_advice_to_put_the_former_key_back_is_given_where_it_was_held() -> None:
    events: list[KeyEvent] = []
    place = Place(A, B)
    async with ring_of(place, on_event=events.append) as ring:
        await ring.get(B.kid)
        place.keys[1] = Key("b", C.secret)
        ring._engine.cache.by_kid[B.kid].ask_at = 0
        assert await ring.get(B.kid) is B
        while not any(event.what == "denied" for event in events):  # noqa: ASYNC110 - the answer comes from a thread
            await asyncio.sleep(0.01)
    (denied,) = (event for event in events if event.what == "denied")
    assert "add the former key under a name of its own" in denied.message


async def test_ten_thousand_cold_callers_cost_one_call() -> None:
    place = Place(A)
    place.open.clear()
    ring = ring_of(place, retry=RetryPolicy(deadline_s=60))
    waiting = [asyncio.ensure_future(ring.active()) for _ in range(10_000)]
    await asyncio.sleep(0.05)
    place.open.set()
    assert set(await asyncio.gather(*waiting)) == {A}
    assert place.asked == ["active"]
    await ring.aclose()


def test_threads_and_loops_share_one_call() -> None:
    place = Place(A)
    place.open.clear()
    ring = ring_of(place)
    with ThreadPoolExecutor(12) as pool:
        found = [pool.submit(ring.active_sync) for _ in range(6)]
        found += [pool.submit(lambda: asyncio.run(ring.active())) for _ in range(6)]
        threading.Timer(0.1, place.open.set).start()
        assert {one.result(10) for one in found} == {A}
    assert place.asked == ["active"]
    ring.close()


async def test_a_cancelled_waiter_does_not_cancel_the_call() -> None:
    place = Place(A)
    place.open.clear()
    ring = ring_of(place)
    first, second = (asyncio.ensure_future(ring.active()) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    await asyncio.sleep(0)
    place.open.set()
    assert await second is A
    assert first.cancelled()
    assert place.asked == ["active"]
    await ring.aclose()


async def test_a_waiter_gives_up_at_its_deadline_and_the_answer_is_held_when_it_comes() -> None:
    place = Place(A)
    place.open.clear()
    ring = ring_of(place, retry=RetryPolicy(deadline_s=0.05))
    with pytest.raises(KeyUnavailableError, match="did not answer within"):
        await ring.active()
    with pytest.raises(KeyUnavailableError, match="did not answer within"):
        await asyncio.to_thread(ring.active_sync)
    place.open.set()
    while not ring.health().can_write:  # noqa: ASYNC110 - the answer comes from a thread
        await asyncio.sleep(0.01)
    assert await ring.active() is A
    assert place.asked == ["active"]
    await ring.aclose()


@pytest.mark.parametrize(
    "error", [KeyAccessDeniedError("no"), KeyUnavailableError("down"), InvalidKeyError("junk"), RuntimeError("foreign")]
)
async def test_what_a_provider_raises_reaches_every_caller_as_it_is(error: Exception) -> None:
    place = Place(A)
    place.error = error
    ring = ring_of(place)
    for caught in await asyncio.gather(*(ring.active() for _ in range(3)), return_exceptions=True):
        assert type(caught) is type(error)
        assert str(caught) == str(error)
    await ring.aclose()


@pytest.mark.parametrize("answer", [None, b"k" * 32, "text"])
async def test_an_answer_that_is_no_key_is_an_error_of_the_provider(answer: object) -> None:
    class Odd(Place):
        def active(self) -> Key:
            return answer  # type: ignore[return-value] # what is tested

    ring = ring_of(Odd())
    with pytest.raises(InvalidKeyError, match="instead of a Key"):
        await ring.active()
    await ring.aclose()


async def test_other_places_are_asked_in_order_for_what_the_first_does_not_have() -> None:
    first, second, third = Place(A), Place(B), Place(C, B)
    async with ring_of(first, also_read=[second, third]) as ring:
        assert await ring.get(B.kid) is B
        assert await ring.get(C.kid) is C
    assert first.asked == ["active", "b", "c"]
    assert second.asked == ["b", "c"]
    assert third.asked == ["c"]


async def test_other_places_may_be_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD_KEYS_OF_THIS_TEST", f"b={B.reveal_base64()}")
    async with ring_of(Place(A), also_read=["env:OLD_KEYS_OF_THIS_TEST"]) as ring:
        assert await ring.get(B.kid) == B


class Partly(Place):
    """Says which key is active, whatever else it says."""

    def active(self) -> Key:
        return A


class Versions(Place):
    """Its names are numbers, as they are elsewhere."""

    names_are_unique = False


ABSENT, DISABLED, DESTROYED = KeyNotFoundError("absent"), KeyDisabledError("disabled"), KeyDestroyedError("destroyed")
DENIED, DOWN = KeyAccessDeniedError("denied"), KeyUnavailableError("down")


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([ABSENT, ABSENT], KeyNotFoundError),
        ([ABSENT, DESTROYED], KeyDestroyedError),
        ([DISABLED, ABSENT], KeyDisabledError),
        ([DESTROYED, DISABLED], KeyDestroyedError),
        ([DESTROYED, DOWN], KeyDestroyedError),
        ([DISABLED, DENIED], KeyDisabledError),
        ([DOWN, DESTROYED], KeyUnavailableError),
        ([DENIED, DISABLED], KeyAccessDeniedError),
        ([ABSENT, DENIED], KeyAccessDeniedError),
        ([DENIED, DOWN], KeyUnavailableError),
    ],
)
async def test_when_no_place_has_it_the_least_certain_answer_counts(
    errors: list[Exception], expected: type[Exception]
) -> None:
    places = [Partly(A) for _ in errors]
    for place, error in zip(places, errors, strict=True):
        place.error = error
    async with ring_of(places[0], also_read=places[1:]) as ring:
        with pytest.raises(KeyProviderError) as caught:
            await ring.get(B.kid)
    assert type(caught.value) is expected


async def test_one_that_has_it_outweighs_all_that_fail() -> None:
    first, second = Place(A), Place(B)
    async with ring_of(first, also_read=[second]) as ring:
        for error in (DENIED, DOWN, ABSENT, RuntimeError("foreign")):
            first.error = error
            assert await ring.get(B.kid) is B


@pytest.mark.parametrize("end", [DISABLED, DESTROYED])
async def test_the_end_of_a_key_at_one_place_is_final_and_no_other_place_hands_it_out(end: Exception) -> None:
    first, second = Place(A), Place(B)
    first.error = end
    async with KeyRing(Partly(A), also_read=[first, second], retry=ONCE) as ring:
        with pytest.raises(type(end)):
            await ring.get(B.kid)
    assert second.asked == []


@pytest.mark.parametrize("end", [DISABLED, DESTROYED])
async def test_where_names_repeat_a_later_place_that_holds_the_whole_kid_answers(end: Exception) -> None:
    first, second, third = Versions(A), Versions(Key("b", C.secret)), Place(B)
    async with ring_of(first, also_read=[second, third]) as ring:
        first.error = end
        assert await ring.get(B.kid) is B
        with pytest.raises(type(end)):
            await ring.get("b~00000000")


async def test_a_closed_ring_has_forgotten_its_keys_and_closed_its_places() -> None:
    first, second = Place(A), Place(B)
    ring = ring_of(first, also_read=[second])
    await ring.active()
    await ring.aclose()
    ring.close()
    assert (first.closed, second.closed) == (1, 1)
    assert ring.health().held == ()
    for call in (ring.active, lambda: ring.get(A.kid), ring.refresh):
        with pytest.raises(KeyProviderError, match="closed"):
            await call()


async def test_refresh_asks_again_at_once() -> None:
    place = Place(A)
    async with ring_of(place) as ring:
        place.keys.insert(0, B)
        assert await ring.active() is A
        assert await ring.refresh() is B
        assert await ring.active() is B
        assert await ring.get(A.kid) is A


async def test_an_ephemeral_ring_has_a_key_of_its_own() -> None:
    async with KeyRing.ephemeral() as one, KeyRing.ephemeral() as other:
        assert (await one.active()).secret != (await other.active()).secret


async def test_a_ring_from_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS_OF_THIS_TEST", A.reveal_base64())
    async with KeyRing.from_url("env:KEYS_OF_THIS_TEST") as ring:
        assert (await ring.active()).secret == A.secret


def test_a_ring_cannot_be_pickled_and_its_repr_has_no_secret() -> None:
    ring = KeyRing(StaticKeyProvider(A, B))
    ring.active_sync()
    with pytest.raises(TypeError, match="a KeyRing cannot be pickled"):
        pickle.dumps(ring)
    assert A.reveal_base64() not in repr(ring)
    assert A.kid in repr(ring)
    ring.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"provider": "env:KEYS"}, r"KeyRing.from_url\(\) takes a URL"),
        ({"provider": A}, "must have active"),
        ({"provider": Place}, "not the class Place itself"),
        ({"also_read": "env:KEYS"}, "also_read must be a list"),
        ({"also_read": [5]}, "also_read must have active"),
        ({"cache": RetryPolicy()}, "cache must be a CachePolicy"),
        ({"retry": None}, "retry must be a RetryPolicy"),
        ({"on_event": 5}, "on_event must be callable"),
        ({"clock": 5}, "clock must be callable"),
        ({"sleep": 5}, "sleep must be callable"),
    ],
)
def test_every_argument_is_checked_where_it_enters(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        KeyRing(**{"provider": Place(A), **wrong})  # type: ignore[arg-type] # what is tested
