"""Keys from a keyset: read at every call, unwrapped once, and every end that a key can come to."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.keyset_fixture import DELAY_S, KeysetFixture
from encrypted_sessions_tests.leaks import Net
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import (
    CachePolicy,
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProvider,
    KeyProviderError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetManager, KeysetStore, WrappedKey
from keyproviders.local import EnvKeyProvider
from keyproviders.testing import FakeKeyProvider, KeyProviderConformance


class TestItIsAProvider(KeyProviderConformance):
    """What every provider must do, on each kind of store."""

    @pytest.fixture(autouse=True)
    def _setting(self, each_store: KeysetStore) -> None:
        self.setting = KeysetFixture.of(each_store)
        self.setting.manager.create(key_name="first")
        self.setting.supersede("second")

    def make_provider(self) -> KeyProvider:
        return self.setting.provider()

    def older_name(self) -> str:
        return "first"


# -- What is handed out -----------------------------------------------------------------------------


def test_the_active_key_has_the_name_and_the_time_of_the_keyset(setting: KeysetFixture) -> None:
    key = setting.provider().active()
    (info,) = setting.manager.list().keys
    assert (key.name, key.created_at) == ("first", info.created_at)


def test_each_key_is_handed_out_by_its_name_also_while_it_is_pending(setting: KeysetFixture) -> None:
    provider = setting.provider()
    first = provider.active()
    setting.manager.rotate(key_name="second")
    assert provider.active() == first
    second = provider.get("second")
    setting.later(DELAY_S)
    assert provider.active() == second
    assert provider.get("first") == first


def test_what_is_done_in_the_keyset_is_seen_at_the_next_call(setting: KeysetFixture) -> None:
    provider = setting.provider()
    first = provider.active()
    assert setting.manager.rotate(key_name="second", now=True).state == "active"
    assert provider.active().name == "second"
    setting.later(DELAY_S)
    setting.manager.retire("first")
    with pytest.raises(
        KeyDisabledError, match=r"'first' of fake:fake/agents with .* was retired at 2027-01-15T08:21:00Z"
    ):
        provider.get("first")
    setting.manager.restore("first")
    assert provider.get("first") == first
    setting.manager.retire("first")
    setting.manager.destroy("first", now=True)
    with pytest.raises(KeyDestroyedError, match=r"was destroyed at 2027-01-15T08:21:00Z"):
        provider.get("first")


def test_a_name_that_was_never_there_is_not_found_and_those_there_are_named(setting: KeysetFixture) -> None:
    with pytest.raises(KeyNotFoundError, match=r"has no key 'second', and never had one; it has first") as caught:
        setting.provider().get("second")
    assert type(caught.value) is KeyNotFoundError


def test_a_name_that_no_key_can_have_is_not_asked_for(empty: KeysetFixture) -> None:
    with pytest.raises(KeyNotFoundError, match="a key cannot have such a name, so it was not asked"):
        empty.provider().get("../first")


def test_where_no_earlier_key_is_usable_the_pending_one_is_active(setting: KeysetFixture, file: Path) -> None:
    setting.manager.rotate(key_name="second")
    top = json.loads(file.read_text())
    top["keys"][0].update(state="retired", retired_at=top["keys"][1]["created_at"])
    file.write_text(json.dumps(top))
    assert setting.provider().active().name == "second"


# -- Until when a key may have written --------------------------------------------------------------


def test_a_key_knows_until_when_it_may_have_written_once_another_key_follows(setting: KeysetFixture) -> None:
    provider = setting.provider()
    first = provider.active()
    assert first.written_until is None
    setting.manager.rotate(key_name="second")
    until = datetime.fromtimestamp(setting.clock.now + 2 * DELAY_S, timezone.utc)
    assert provider.active().written_until == until
    setting.later(DELAY_S)
    assert provider.active().written_until is None
    assert provider.get("first").written_until == until
    assert provider.get("first") == first
    # Nobody was asked for it again.
    assert setting.wrapper.calls["unwrap"] == 2


def test_a_key_that_was_overtaken_in_an_emergency_wrote_no_longer_than_a_delay_after_that(
    setting: KeysetFixture,
) -> None:
    setting.manager.rotate(key_name="second")
    setting.later(60)
    setting.manager.rotate(key_name="third", now=True)
    until = datetime.fromtimestamp(setting.clock.now + DELAY_S, timezone.utc)
    provider = setting.provider()
    assert [provider.get(name).written_until for name in ("first", "second", "third")] == [until, until, None]
    shown = {key.name: key.written_until for key in setting.manager.list().keys}
    assert shown == {"first": until, "second": until, "third": None}


# -- A keyset that is none --------------------------------------------------------------------------


def test_a_keyset_that_is_not_there_says_how_to_make_one(empty: KeysetFixture) -> None:
    with pytest.raises(ProviderConfigError, match=r"no keyset 'default' in file:.*; check .* `encrypted-sessions keys"):
        empty.provider().active()


@pytest.mark.parametrize("text", ["", "{}", "x", '{"format": 1, "keys": []}'])
def test_a_damaged_keyset_names_its_place_and_is_left_as_it_is(text: str, setting: KeysetFixture, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(InvalidKeyError, match=rf"the keyset 'default' in file:{file} is not a keyset: "):
        setting.provider().active()
    for change in (
        setting.manager.create,
        setting.manager.rotate,
        setting.manager.rewrap,
        lambda: setting.manager.retire("first"),
        lambda: setting.manager.restore("first"),
        lambda: setting.manager.destroy("first", now=True),
    ):
        with pytest.raises(InvalidKeyError, match="is not a keyset"):
            change()
    assert file.read_text() == text


def test_a_keyset_of_a_later_format_or_of_another_name_is_left_as_it_is(setting: KeysetFixture, file: Path) -> None:
    with pytest.raises(ProviderConfigError, match="contains the name 'default'"):
        setting.provider(name="tenant-7").active()
    file.write_text('{"format": 3}')
    with pytest.raises(ProviderConfigError, match="of format 3"):
        setting.provider().active()
    with pytest.raises(ProviderConfigError, match="of format 3"):
        setting.manager.rotate()
    assert file.read_text() == '{"format": 3}'


@pytest.mark.parametrize("field", ["name", "created_at", "wrapped"])
def test_a_wrapped_key_opens_nowhere_but_where_it_was_made(field: str, setting: KeysetFixture, file: Path) -> None:
    setting.later(5)
    setting.manager.rotate(key_name="second", now=True)
    top = json.loads(file.read_text())
    first, second = top["keys"]
    if field == "name":
        first["name"], second["name"] = second["name"], first["name"]
    else:
        first[field] = second[field]
        first["activate_at"] = second["activate_at"]
    file.write_text(json.dumps(top))
    with pytest.raises(InvalidKeyError, match="cannot open the key"):
        setting.provider().get("first")


def test_a_wrapped_key_does_not_open_in_another_keyset(setting: KeysetFixture, file: Path) -> None:
    file.write_text(file.read_text().replace('"keyset": "default"', '"keyset": "other"'))
    with pytest.raises(InvalidKeyError, match="cannot open the key 'first'"):
        setting.provider(name="other").active()


# -- Unwrapping -------------------------------------------------------------------------------------


def test_a_key_is_unwrapped_once_however_often_it_is_asked_for(setting: KeysetFixture) -> None:
    provider = setting.provider()
    for _ in range(100):
        assert provider.active() is provider.get("first")
    assert setting.wrapper.calls["unwrap"] == 1


def test_a_key_is_unwrapped_again_when_its_copy_is_older_than_revalidate_s(setting: KeysetFixture) -> None:
    provider = setting.provider(revalidate_s=100)
    provider.active()
    setting.later(99)
    provider.active()
    assert setting.wrapper.calls["unwrap"] == 1
    setting.later(2)
    provider.active()
    assert setting.wrapper.calls["unwrap"] == 2


def test_a_copy_is_made_anew_before_a_ring_would_go_on_with_it_for_too_long(setting: KeysetFixture) -> None:
    provider = setting.provider()
    provider.expect(300, 3_600)
    for passed, unwrapped in ((0, 1), (3_409, 1), (2, 2)):
        setting.later(passed)
        provider.active()
        assert setting.wrapper.calls["unwrap"] == unwrapped
    # Of an older key a ring asks once an hour, and goes on for an hour with what it hears.
    for passed, unwrapped in ((0, 2), (109, 2), (2, 3)):
        setting.later(passed)
        provider.get("first")
        assert setting.wrapper.calls["unwrap"] == unwrapped


def test_setting_the_clock_back_keeps_no_copy_for_longer(setting: KeysetFixture) -> None:
    provider = setting.provider(revalidate_s=100)
    provider.active()
    setting.later(60)
    provider.active()
    setting.clock.now -= 1_000
    provider.active()
    setting.later(1_000 + 41)
    provider.active()
    assert setting.wrapper.calls["unwrap"] == 2


@pytest.mark.parametrize(
    "error", [KeyDisabledError("disabled"), KeyAccessDeniedError("no"), KeyUnavailableError("down")]
)
def test_what_the_wrapper_says_when_a_copy_is_too_old_is_passed_on(error: Exception, setting: KeysetFixture) -> None:
    provider = setting.provider()
    key = provider.active()
    setting.wrapper.failure = error
    assert provider.active() is key
    setting.later(3_601)
    with pytest.raises(type(error)) as caught:
        provider.active()
    assert caught.value is error
    setting.wrapper.failure = None
    assert provider.active() == key


def test_a_key_that_lies_there_in_another_wrapping_is_unwrapped_from_it(setting: KeysetFixture) -> None:
    other = FakeKeyWrapper("fake/other")
    provider = setting.provider(FakeKeyWrapper("fake/agents", also_kek="fake/other"))
    strict = setting.provider()
    key = provider.active()
    assert strict.active() == key
    KeysetManager(other, setting.store, clock=setting.clock).rewrap()
    assert provider.active() == key
    with pytest.raises(ProviderConfigError, match="wrapped under fake/other, and fake:fake/agents is fake/agents"):
        strict.active()


def test_a_keyset_that_was_made_anew_with_the_same_names_is_another_one(setting: KeysetFixture, file: Path) -> None:
    provider = setting.provider()
    first = provider.active()
    file.unlink()
    setting.later(1)
    setting.manager.create(key_name="first")
    with pytest.raises(InvalidKeyError, match="but this process saw it with the id"):
        provider.active()
    assert setting.provider().active().fingerprint != first.fingerprint


def test_no_copy_is_kept_of_a_key_that_is_not_handed_out(setting: KeysetFixture) -> None:
    provider = setting.provider()
    provider.active()
    setting.retire_first()
    provider.active()
    assert set(provider._copies) == {"second"}
    setting.manager.restore("first")
    provider.get("first")
    assert setting.wrapper.calls["unwrap"] == 3


@pytest.mark.parametrize("secret", [b"short", bytearray(32), None, "x" * 32])
def test_a_wrapper_that_answers_with_no_key_is_named(secret: Any, setting: KeysetFixture) -> None:
    class Odd(FakeKeyWrapper):
        def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
            return secret  # type: ignore[no-any-return]  # what is tested

    with pytest.raises(InvalidKeyError, match=r"unwrapping the key 'first' .* but a key has 32 bytes"):
        setting.provider(Odd()).active()


class Slow(FakeKeyWrapper):
    """Unwraps when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.under_way = threading.Semaphore(0)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        self.under_way.release()
        assert self.go_on.wait(60)
        return super().unwrap(wrapped, context)


def in_threads(calls: list[Callable[[], Key]]) -> tuple[list[threading.Thread], list[Key]]:
    found: list[Key] = []
    threads = [threading.Thread(target=lambda call=call: found.append(call())) for call in calls]
    for thread in threads:
        thread.start()
    return threads, found


def test_threads_that_want_one_key_wait_for_one_call(setting: KeysetFixture) -> None:
    slow = Slow()
    provider = setting.provider(slow)
    threads, found = in_threads([provider.active, provider.active, lambda: provider.get("first"), provider.active])
    assert slow.under_way.acquire(timeout=60)
    slow.go_on.set()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert slow.calls["unwrap"] == 1


def test_threads_that_want_different_keys_do_not_wait_for_each_other(setting: KeysetFixture) -> None:
    setting.supersede("second")
    slow = Slow()
    provider = setting.provider(slow)
    threads, found = in_threads([provider.active, lambda: provider.get("first")])
    for _ in threads:
        assert slow.under_way.acquire(timeout=60)
    slow.go_on.set()
    for thread in threads:
        thread.join()
    assert {key.name for key in found} == {"first", "second"}


def test_a_call_that_ends_after_close_leaves_no_copy(setting: KeysetFixture) -> None:
    slow = Slow()
    provider = setting.provider(slow)
    threads, _ = in_threads([provider.active])
    assert slow.under_way.acquire(timeout=60)
    provider.close()
    slow.go_on.set()
    threads[0].join()
    assert provider._copies == {}


# -- Its life ---------------------------------------------------------------------------------------


class Store(FileKeysetStore):
    """One that has something to close, and counts it."""

    closed = forked = 0

    def close(self) -> None:
        self.closed += 1
        raise OSError("the store does not close")

    def after_fork(self) -> None:
        self.forked += 1


def test_closing_closes_both_parts_and_forgets_the_keys(setting: KeysetFixture, file: Path) -> None:
    store = Store(file)
    provider = KeysetKeyProvider(setting.wrapper, store)
    provider.active()
    with pytest.raises(OSError, match="does not close"):
        provider.close()
    assert (setting.wrapper.closed, store.closed) == (1, 1)
    assert provider._copies == {}
    for call in (provider.active, lambda: provider.get("first")):
        with pytest.raises(KeyProviderError, match="is closed"):
            call()


def test_a_fork_is_passed_on_and_the_copies_stay(setting: KeysetFixture, file: Path) -> None:
    store = Store(file)
    provider = KeysetKeyProvider(setting.wrapper, store, clock=setting.clock)
    key = provider.active()
    held = provider._lock
    with held:
        # As in a child whose parent was in the middle of a call.
        provider.after_fork()
        assert provider.active() is key
    assert (setting.wrapper.forked, store.forked) == (1, 1)
    assert setting.wrapper.calls["unwrap"] == 1


def test_it_cannot_be_pickled_or_copied_and_shows_no_secret(setting: KeysetFixture) -> None:
    provider = setting.provider()
    key = provider.active()
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled: it holds keys"):
            copied(provider)
    for shown in (repr(provider), str(provider), provider.place):
        assert "the keyset 'default' in file:" in shown
        assert key.reveal_base64()[:8] not in shown
        assert key.secret.hex()[:8] not in shown


def test_no_error_of_a_call_carries_the_key(setting: KeysetFixture) -> None:
    net = Net()

    class Sentinel(FakeKeyWrapper):
        def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
            super().unwrap(wrapped, context)
            return net.secret + b"."

    provider = setting.provider(Sentinel())
    with net.raises(InvalidKeyError):
        provider.active()
    with net.raises(InvalidKeyError):
        provider.get("first")
    net.see(provider)
    assert net.leaks() == []


# -- In a ring --------------------------------------------------------------------------------------


def ring_of(setting: KeysetFixture, **cache: float) -> closing[KeyRing]:
    return closing(KeyRing(setting.provider(), cache=CachePolicy(**cache)))  # type: ignore[arg-type]  # but max_keys


def test_a_ring_that_writes_longer_than_the_keyset_counts_on_is_refused_at_the_first_fetch(
    setting: KeysetFixture,
) -> None:
    refused = r"may keep writing with a key for 1261 s .* but the keyset allows 1260 s"
    with ring_of(setting, fresh_s=301) as ring, pytest.raises(ProviderConfigError, match=refused):
        ring.active_sync()
    with ring_of(setting) as ring:
        assert ring.active_sync().name == "first"


def test_a_ring_that_only_reads_from_the_keyset_may_be_as_slow_as_it_likes(setting: KeysetFixture) -> None:
    kid = setting.provider().active().kid
    slow = CachePolicy(fresh_s=301)
    with closing(KeyRing(FakeKeyProvider(), also_read=[setting.provider()], cache=slow)) as ring:
        assert ring.active_sync().name == "1"
        assert ring.get_sync(kid).kid == kid


def test_what_is_done_in_the_keyset_reaches_a_ring_when_it_refreshes(setting: KeysetFixture) -> None:
    with closing(KeyRing(setting.provider())) as ring:
        first = ring.active_sync()
        setting.manager.rotate(key_name="second", now=True)
        assert ring.active_sync() is first
        asyncio.run(ring.refresh())
        assert ring.active_sync().name == "second"
        assert ring.get_sync(first.kid) is first


async def test_many_sessions_of_a_process_cost_one_call(setting: KeysetFixture) -> None:
    async with KeyRing(setting.provider()) as ring:
        for at in range(100):
            session = EncryptedSession.wrap(PlainSession(f"session-{at}", []), ring, ttl=60)
            for turn in range(3):
                await session.add_items([{"role": "user", "content": f"turn {turn}"}])
                assert len(await session.get_items()) == turn + 1
    assert dict(setting.wrapper.calls) == {"generate": 1, "unwrap": 1}


async def test_moving_from_a_variable_to_a_keyset_leaves_no_item_unreadable(
    setting: KeysetFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Key.generate()
    monkeypatch.setenv("SESSION_KEYS", old.reveal_base64())
    store = PlainSession("session", [])
    variable, keyset = EnvKeyProvider("SESSION_KEYS"), setting.provider()
    before = KeyRing(variable)
    # Everywhere first: readers know the new place before anybody writes with its key.
    between = KeyRing(variable, also_read=[keyset])
    after = KeyRing(keyset, also_read=[variable])
    async with before, between, after:
        items = []
        for at, ring in enumerate((before, between, after, between, after)):
            session = EncryptedSession.wrap(store, ring, ttl=None)
            items.append({"role": "user", "content": f"item {at}"})
            await session.add_items([items[-1]])  # type: ignore[list-item]  # a message
            assert await session.get_items() == items
        for ring in (between, after):
            assert await EncryptedSession.wrap(store, ring, ttl=None).get_items() == items
        assert {row["kid"] for row in await store.get_items()} == {old.kid, setting.provider().active().kid}


# -- Wrong arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"wrapper": None}, TypeError, "wrapper must have generate(), unwrap(), rewrap() and place, which a NoneType"),
        ({"wrapper": FakeKeyWrapper}, TypeError, "which the class FakeKeyWrapper itself lacks"),
        ({"store": "file:/etc"}, TypeError, "store must have read(), write() and place, which a str lacks"),
        ({"store": FileKeysetStore}, TypeError, "which the class FileKeysetStore itself lacks"),
        ({"name": None}, TypeError, "name must be a str, not NoneType"),
        ({"name": ""}, ProviderConfigError, "name must be 1 to 119 characters"),
        ({"name": "a/b"}, ProviderConfigError, "name must be 1 to 119 characters"),
        ({"name": Key.generate().reveal_base64().rstrip("=")}, ProviderConfigError, "name is a key, not a name"),
        ({"keyset_id": 5}, TypeError, "keyset_id must be a str or None, not int"),
        ({"keyset_id": "A" * 32}, ProviderConfigError, "keyset_id (32 characters) is not the id of a keyset"),
        ({"keyset_id": "0" * 33}, ProviderConfigError, "keyset_id (33 characters) is not the id of a keyset"),
        ({"revalidate_s": "60"}, TypeError, "revalidate_s must be a number of seconds, not str"),
        ({"revalidate_s": True}, TypeError, "revalidate_s must be a number of seconds, not bool"),
        ({"revalidate_s": 0}, ProviderConfigError, "revalidate_s must be finite and more than 0; 0 was given"),
        ({"revalidate_s": float("inf")}, ProviderConfigError, "revalidate_s must be finite and more than 0"),
        ({"revalidate_s": float("nan")}, ProviderConfigError, "revalidate_s must be finite and more than 0"),
        ({"clock": 5}, TypeError, "clock must be callable, not int"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], kind: type[Exception], words: str, file: Path) -> None:
    given: dict[str, Any] = {"wrapper": FakeKeyWrapper(), "store": FileKeysetStore(file), **change}
    with pytest.raises(kind) as caught:
        KeysetKeyProvider(given.pop("wrapper"), given.pop("store"), **given)
    assert words in str(caught.value)
    assert caught.value.__class__ is kind


@pytest.mark.parametrize("name", [None, 5, b"first"])
def test_a_name_of_another_type_is_a_type_error(name: Any, setting: KeysetFixture) -> None:
    with pytest.raises(TypeError, match=f"name must be a str, not {type(name).__name__}"):
        setting.provider().get(name)


def test_a_store_that_answers_with_something_else_is_named(setting: KeysetFixture) -> None:
    class Odd(FileKeysetStore):
        def read(self, name: str) -> Any:
            return "text"

    with pytest.raises(InvalidKeyError, match=r"returned a str instead of a StoredKeyset; this is a bug in the store"):
        KeysetKeyProvider(setting.wrapper, Odd("/nowhere")).active()
