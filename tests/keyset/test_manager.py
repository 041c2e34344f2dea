"""What an operator does with a keyset: each change, what it refuses, and what happens when somebody was first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.keyset_fixture import DELAY_S, KeysetFixture, make_format_1
from encrypted_sessions_tests.leaks import Net
from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.keyset import (
    FileKeysetStore,
    KeysetManager,
    KeysetRefusedError,
    KeysetStore,
    SqlKeysetStore,
    WrappedKey,
    manager,
)

NOON = datetime(2027, 1, 15, 8, 0, tzinfo=timezone.utc)  # where the clock of the tests begins


# -- Each change, on each kind of store -------------------------------------------------------------


def test_a_keyset_goes_through_its_whole_life(each_store: KeysetStore) -> None:
    setting = KeysetFixture.of(each_store)
    keyset, provider = setting.manager, setting.provider()
    assert keyset.create(key_name="first").state == "active"
    first = provider.active()
    assert keyset.rotate(key_name="second").state == "pending"
    assert provider.active() == first
    setting.later(DELAY_S + 1)
    assert setting.states() == {"first": "decrypt-only", "second": "active"}
    assert {key.kek for key in keyset.rewrap()} == {"fake/agents"}
    setting.later(DELAY_S)
    assert keyset.retire("first").state == "retired"
    assert keyset.restore("first").state == "decrypt-only"
    assert provider.get("first") == first
    keyset.retire("first")
    assert keyset.destroy("first", now=True).state == "destroyed"
    assert setting.states() == {"first": "destroyed", "second": "active"}
    assert setting.provider().active().name == "second"


def test_two_keysets_lie_in_one_database(tmp_path: Path) -> None:
    with closing(SqlKeysetStore(f"sqlite:///{tmp_path / 'keysets.db'}")) as store:
        for name in ("tenant-1", "tenant-2"):
            KeysetManager(FakeKeyWrapper(), store, name=name).create(key_name=f"of-{name}")
        found = KeysetManager(FakeKeyWrapper(), store, name="tenant-2").list()
    assert (found.name, [key.name for key in found.keys]) == ("tenant-2", ["of-tenant-2"])


# -- Create -----------------------------------------------------------------------------------------


def test_a_new_keyset_has_one_active_key(empty: KeysetFixture) -> None:
    key = empty.manager.create()
    assert re.fullmatch(r"20270115-[0-9a-f]{6}", key.name)
    assert (key.state, key.created_at, key.activate_at, key.kek) == ("active", NOON, NOON, "fake/agents")
    assert (key.written_until, key.retired_at, key.destroyed_at) == (None, None, None)
    found = empty.manager.list()
    assert (found.name, found.activation_delay_s, found.keys) == ("default", 1_260, (key,))
    assert (found.format, found.revision, found.destroy_after_s) == (2, 1, 604_800)
    assert found.id == empty.manager.keyset_id
    assert dict(empty.wrapper.calls) == {"generate": 1}


def test_names_that_are_made_up_differ(empty: KeysetFixture) -> None:
    empty.manager.create()
    for _ in range(5):
        empty.manager.rotate(now=True)
    assert len(empty.states()) == 6


def test_create_refuses_where_a_keyset_is_and_asks_for_no_key(setting: KeysetFixture) -> None:
    before = setting.text()
    with pytest.raises(KeysetRefusedError, match=r"the keyset 'default' in file:.* exists already, and nothing was"):
        setting.manager.create()
    assert setting.text() == before
    assert setting.wrapper.calls["generate"] == 1


@pytest.mark.parametrize("delay_s", [1, 60, 366 * 86_400])
def test_the_activation_delay_is_kept_in_the_keyset(delay_s: int, empty: KeysetFixture) -> None:
    empty.manager.create(activation_delay_s=delay_s)
    assert empty.manager.list().activation_delay_s == delay_s
    assert empty.manager.rotate().activate_at == NOON + timedelta(seconds=delay_s)
    provider = empty.provider()
    assert provider.activation_delay_s is None
    provider.active()
    assert provider.activation_delay_s == delay_s


# -- Rotate -----------------------------------------------------------------------------------------


def test_a_rotation_waits_for_the_activation_delay(setting: KeysetFixture) -> None:
    key = setting.manager.rotate()
    assert (key.state, key.activate_at) == ("pending", NOON + timedelta(seconds=DELAY_S))
    setting.later(DELAY_S - 1)
    assert setting.states() == {"first": "active", key.name: "pending"}
    setting.later(1)
    assert setting.states() == {"first": "decrypt-only", key.name: "active"}


def test_a_rotation_is_refused_while_another_key_is_pending_and_asks_for_no_key(setting: KeysetFixture) -> None:
    setting.manager.rotate(key_name="second")
    before = setting.text()
    with pytest.raises(KeysetRefusedError, match=r"'second' .* is pending and becomes active at 2027-01-15T08:21:00Z"):
        setting.manager.rotate()
    assert setting.text() == before
    assert setting.wrapper.calls["generate"] == 2
    setting.later(DELAY_S)
    assert setting.manager.rotate().state == "pending"


def test_in_an_emergency_a_new_key_is_active_at_once_and_overtakes_a_pending_one(setting: KeysetFixture) -> None:
    setting.manager.rotate(key_name="second")
    assert setting.manager.rotate(key_name="third", now=True).state == "active"
    assert setting.states() == {"first": "decrypt-only", "second": "decrypt-only", "third": "active"}
    setting.later(2 * DELAY_S)
    assert setting.states() == {"first": "decrypt-only", "second": "decrypt-only", "third": "active"}
    # The overtaken one is a key like any other older one.
    assert setting.provider().get("second").name == "second"
    assert setting.manager.retire("second").state == "retired"


def test_a_name_that_was_there_is_refused_before_a_key_is_made(setting: KeysetFixture) -> None:
    with pytest.raises(KeysetRefusedError, match="has or had a key 'first'"):
        setting.manager.rotate(key_name="first")
    assert setting.wrapper.calls["generate"] == 1


def test_a_clock_that_was_set_back_makes_no_keyset_that_cannot_be_read(setting: KeysetFixture) -> None:
    setting.later(-10_000)
    setting.manager.rotate(key_name="second", now=True)
    # For this clock nothing is due but the newest.
    assert setting.states() == {"first": "decrypt-only", "second": "active"}


# -- Rewrap -----------------------------------------------------------------------------------------


def test_every_key_is_wrapped_anew_at_once_but_those_that_are_destroyed(setting: KeysetFixture) -> None:
    setting.retire_first()
    setting.supersede("third")
    setting.manager.retire("second")
    setting.manager.destroy("second", now=True)
    keys = {name: setting.provider().get(name) for name in ("third",)}
    moved = KeysetManager(FakeKeyWrapper("fake/new"), setting.store, clock=setting.clock)
    assert [(key.name, key.state, key.kek) for key in moved.rewrap()] == [
        ("first", "retired", "fake/new"),
        ("third", "active", "fake/new"),
    ]
    assert {key.name: key.kek for key in moved.list().keys}["second"] == "fake/agents"
    moved.restore("first")
    new = setting.provider(FakeKeyWrapper("fake/new"))
    assert new.get("third") == keys["third"]
    assert new.get("first").name == "first"


def test_a_rewrap_of_which_one_key_fails_changes_nothing(setting: KeysetFixture) -> None:
    setting.supersede("second")
    before = setting.text()

    class Fails(FakeKeyWrapper):
        def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
            if context["key"] == "second":
                raise KeyUnavailableError("down")
            return super().rewrap(wrapped, context)

    with pytest.raises(KeyUnavailableError, match="down"):
        KeysetManager(Fails("fake/new"), setting.store).rewrap()
    assert setting.text() == before


# -- Retire, restore, destroy -----------------------------------------------------------------------


def test_a_key_is_retired_only_when_nobody_can_be_writing_with_it(setting: KeysetFixture) -> None:
    setting.manager.rotate(key_name="second")
    setting.later(DELAY_S)
    (first, _) = setting.manager.list().keys
    assert first.written_until == NOON + timedelta(seconds=2 * DELAY_S)
    with pytest.raises(KeysetRefusedError, match=r"until 2027-01-15T08:42:00Z, .* may write with the key 'first'"):
        setting.manager.retire("first")
    setting.later(DELAY_S)
    assert setting.manager.retire("first").retired_at == NOON + timedelta(seconds=2 * DELAY_S)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda keyset: keyset.retire("first"), "'first' of the keyset 'default' is active, and only a decrypt-only"),
        (lambda keyset: keyset.destroy("first"), "'first' of the keyset 'default' is active, and only a retired key"),
        (lambda keyset: keyset.retire("second"), "'second' of the keyset 'default' is pending"),
        (lambda keyset: keyset.destroy("second"), "'second' of the keyset 'default' is pending, and only a retired"),
        (lambda keyset: keyset.retire("third"), "has no key 'third'; it has first, second"),
        (lambda keyset: keyset.restore("third"), "has no key 'third'"),
        (lambda keyset: keyset.destroy("third"), "has no key 'third'"),
    ],
)
def test_what_the_state_does_not_allow_is_refused_and_changes_nothing(
    change: Callable[[KeysetManager], object], words: str, setting: KeysetFixture
) -> None:
    setting.manager.rotate(key_name="second")
    before = setting.text()
    with pytest.raises(KeysetRefusedError, match=words):
        change(setting.manager)
    assert setting.text() == before


def test_destroying_leaves_a_record_of_what_and_when_and_no_wrapped_bytes(setting: KeysetFixture) -> None:
    stored = setting.text()
    setting.retire_first()
    key = setting.manager.destroy("first", now=True)
    assert (key.name, key.created_at, key.kek) == ("first", NOON, "fake/agents")
    assert key.destroyed_at == NOON + timedelta(seconds=2 * DELAY_S)
    wrapped = re.findall(r'"wrapped": "([^"]+)"', stored)[0]
    assert wrapped not in setting.text()
    with pytest.raises(KeysetRefusedError, match="was destroyed at 2027-01-15T08:42:00Z; only a copy of the keyset"):
        setting.manager.restore("first")


def test_a_retired_key_waits_until_it_is_destroyed_unless_that_is_overridden(empty: KeysetFixture) -> None:
    empty.manager.create(key_name="first", destroy_after_s=3_600)
    empty.retire_first()
    with pytest.raises(KeysetRefusedError, match=r"may be destroyed from 2027-01-15T09:42:00Z on.*--now first"):
        empty.manager.destroy("first")
    empty.manager.restore("first")
    empty.later(3_600)
    empty.manager.retire("first")
    empty.later(3_599)
    with pytest.raises(KeysetRefusedError, match="may be destroyed from"):
        empty.manager.destroy("first")
    empty.later(1)
    assert empty.manager.destroy("first").state == "destroyed"
    empty.supersede("third")
    empty.manager.retire("second")
    assert empty.manager.destroy("second", now=True).state == "destroyed"
    with pytest.raises(TypeError, match="now must be a bool"):
        empty.manager.destroy("second", now="second")  # type: ignore[arg-type]


def test_a_keyset_that_was_made_so_and_one_of_format_1_need_not_wait(empty: KeysetFixture, tmp_path: Path) -> None:
    empty.manager.create(key_name="first", destroy_after_s=0)
    former = KeysetFixture.of(FileKeysetStore(tmp_path / "former.json"))
    make_format_1(former.wrapper, former.store, "first", now=int(former.clock()))
    for setting in (empty, former):
        setting.retire_first()
        assert setting.manager.destroy("first").state == "destroyed"


def test_what_is_done_twice_is_done_once(setting: KeysetFixture) -> None:
    setting.retire_first()
    destroy = partial(setting.manager.destroy, now=True)
    for change in (setting.manager.retire, setting.manager.restore, setting.manager.retire, destroy):
        done, text = change("first"), setting.text()
        setting.later(60)
        assert change("first") == done
        assert setting.text() == text


# -- The record -------------------------------------------------------------------------------------


def test_each_change_is_a_revision_and_says_what_when_who_and_why(
    empty: KeysetFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "user_name", lambda: "ops")
    monkeypatch.setattr(manager, "host_name", lambda: "bastion-1")
    keyset = empty.manager
    keyset.create(key_name="first", reason="CHG-1")
    empty.later(60)
    keyset.rotate(key_name="second", now=True, reason="CHG-2")
    keyset.rewrap()
    empty.later(DELAY_S)
    keyset.retire("first", reason="CHG-3")
    keyset.restore("first")
    keyset.retire("first")
    keyset.destroy("first", now=True, reason="CHG-4")
    found = keyset.list()
    assert [(one.what, one.key, one.reason) for one in found.changes] == [
        ("create", "first", "CHG-1"),
        ("rotate", "second", "CHG-2"),
        ("rewrap", None, None),
        ("retire", "first", "CHG-3"),
        ("restore", "first", None),
        ("retire", "first", None),
        ("destroy", "first", "CHG-4"),
    ]
    assert {(one.user, one.host) for one in found.changes} == {("ops", "bastion-1")}
    assert [one.at - NOON for one in found.changes[:3]] == [timedelta(0), timedelta(seconds=60), timedelta(seconds=60)]
    assert found.revision == 7
    # What changes nothing is no change.
    keyset.destroy("first")
    assert keyset.list() == found


def test_the_last_20_changes_stay_on_record(setting: KeysetFixture) -> None:
    for at in range(25):
        setting.manager.rotate(key_name=f"k{at}", now=True)
    found = setting.manager.list()
    assert [one.key for one in found.changes] == [f"k{at}" for at in range(5, 25)]
    assert found.revision == 26


def test_who_changed_it_is_this_user_on_this_machine_also_without_a_name(
    empty: KeysetFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", lambda: "ops\x1b[2J")
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 400)
    empty.manager.create()
    monkeypatch.setattr("getpass.getuser", no_name)
    monkeypatch.setattr("socket.gethostname", lambda: "")
    empty.manager.rotate()
    first, second = empty.manager.list().changes
    assert (first.user, first.host) == ("ops?[2J", "h" * 250 + "...")
    assert re.fullmatch(r"uid \d+", second.user)
    assert second.host == "unknown"


# -- When somebody else was first, or the place fails -----------------------------------------------


class Contested(FileKeysetStore):
    """Before a write, somebody else makes a change of their own: as often as there are such changes."""

    def __init__(self, path: Path, *others: Callable[[], object]) -> None:
        super().__init__(path)
        self.others = list(others)

    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        if self.others:
            self.others.pop(0)()
        return super().write(name, text, expected=expected)


def test_a_change_begins_again_from_what_somebody_else_made_of_the_keyset(setting: KeysetFixture, file: Path) -> None:
    setting.retire_first()
    store = Contested(
        file,
        lambda: setting.manager.rotate(key_name="emergency", now=True),
        lambda: setting.manager.destroy("first", now=True),
    )
    other = KeysetManager(setting.wrapper, store, clock=setting.clock)
    before = setting.wrapper.calls["generate"]
    other.rotate(key_name="mine", now=True)
    assert setting.states() == {
        "first": "destroyed",
        "second": "decrypt-only",
        "emergency": "decrypt-only",
        "mine": "active",
    }
    # One key for each of the two that were added, however often it was tried.
    assert setting.wrapper.calls["generate"] == before + 2
    assert setting.provider().active().name == "mine"


def test_who_rotates_second_is_refused_by_what_the_first_made(setting: KeysetFixture, file: Path) -> None:
    store = Contested(file, lambda: setting.manager.rotate(key_name="winner"))
    with pytest.raises(KeysetRefusedError, match="'winner' of the keyset 'default' is pending"):
        KeysetManager(setting.wrapper, store, clock=setting.clock).rotate(key_name="loser")
    assert list(setting.states()) == ["first", "winner"]


def test_who_creates_second_is_refused_and_changes_nothing(empty: KeysetFixture, file: Path) -> None:
    store = Contested(file, lambda: empty.manager.create(key_name="winner"))
    with pytest.raises(KeysetRefusedError, match="already, and nothing was changed"):
        KeysetManager(empty.wrapper, store, clock=empty.clock).create(key_name="loser")
    assert list(empty.states()) == ["winner"]


def test_a_rewrap_that_was_overtaken_wraps_only_what_it_has_not_wrapped(setting: KeysetFixture, file: Path) -> None:
    store = Contested(file, lambda: setting.manager.rotate(key_name="second"))
    wrapper = FakeKeyWrapper("fake/new")
    KeysetManager(wrapper, store, clock=setting.clock).rewrap()
    assert {key.name: key.kek for key in setting.manager.list().keys} == {"first": "fake/new", "second": "fake/new"}
    assert wrapper.calls["rewrap"] == 2


def test_who_never_gets_through_gives_up_and_says_so(setting: KeysetFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(manager.time, "sleep", pauses.append)

    class Losing(FileKeysetStore):
        def write(self, name: str, text: str, *, expected: str | None) -> bool:
            return False

    losing = KeysetManager(setting.wrapper, Losing(setting.store.place.removeprefix("file:")))
    with pytest.raises(KeyUnavailableError, match="was changed by others 100 times while this change was attempted"):
        losing.rotate()
    assert len(pauses) == 100
    assert max(pauses) <= 0.05


@pytest.mark.parametrize("error", [KeyUnavailableError("down"), KeyAccessDeniedError("no"), ProviderConfigError("bad")])
def test_what_the_wrapper_raises_is_passed_on_and_nothing_is_changed(
    error: KeyProviderError, setting: KeysetFixture
) -> None:
    before = setting.text()
    setting.wrapper.failure = error
    for change in (setting.manager.rotate, setting.manager.rewrap):
        with pytest.raises(type(error)) as caught:
            change()
        assert caught.value is error
    assert setting.text() == before


@pytest.mark.parametrize("answer", [("kek", "text"), WrappedKey("a kek", "text"), WrappedKey("kek", ""), None])
def test_what_could_not_be_read_again_is_not_written(answer: Any, setting: KeysetFixture) -> None:
    class Odd(FakeKeyWrapper):
        def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
            return bytes(32), answer

        def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
            return answer  # type: ignore[no-any-return]  # what is tested

    before = setting.text()
    odd = KeysetManager(Odd(), setting.store)
    for change in (odd.rotate, odd.rewrap):
        with pytest.raises(InvalidKeyError, match=r"instead of a WrappedKey|the next revision of the keyset"):
            change()
    assert setting.text() == before


def test_no_error_of_a_change_carries_the_key(setting: KeysetFixture, file: Path) -> None:
    net = Net()

    class Sentinel(FakeKeyWrapper):
        def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
            return net.secret, super().generate(context)[1]

    class Failing(FileKeysetStore):
        def write(self, name: str, text: str, *, expected: str | None) -> bool:
            raise KeyUnavailableError("down")

    keyset = KeysetManager(Sentinel(), Failing(file))
    with net.raises(KeyUnavailableError):
        keyset.rotate()
    file.unlink()
    with net.raises(KeyUnavailableError):
        keyset.create()
    net.see(keyset)
    net.see(KeysetManager(Sentinel(), FileKeysetStore(file)).create())
    assert net.leaks() == []


def test_closing_closes_both_parts(setting: KeysetFixture) -> None:
    setting.manager.close()
    assert setting.wrapper.closed == 1


def test_it_shows_its_parts_and_no_key(setting: KeysetFixture) -> None:
    assert (
        repr(setting.manager) == f"<KeysetManager fake:fake/agents with the keyset 'default' in {setting.store.place}>"
    )


# -- Wrong arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda keyset: keyset.create(key_name=5), TypeError, "key_name must be a str, not int"),
        (lambda keyset: keyset.create(key_name="a b"), ProviderConfigError, "key_name must be 1 to 119 characters"),
        (
            lambda keyset: keyset.create(activation_delay_s=0),
            ProviderConfigError,
            "must be 1 to 31622400 seconds; 0 was",
        ),
        (
            lambda keyset: keyset.create(activation_delay_s=True),
            TypeError,
            "activation_delay_s must be an int, not bool",
        ),
        (
            lambda keyset: keyset.create(activation_delay_s=1.5),
            TypeError,
            "activation_delay_s must be an int, not float",
        ),
        (
            lambda keyset: keyset.create(destroy_after_s=-1),
            ProviderConfigError,
            "destroy_after_s must be 0 to 31622400",
        ),
        (lambda keyset: keyset.create(destroy_after_s=1.5), TypeError, "destroy_after_s must be an int, not float"),
        (lambda keyset: keyset.upgrade(destroy_after_s="7d"), TypeError, "destroy_after_s must be an int, not str"),
        (lambda keyset: keyset.create(reason=7), TypeError, "reason must be a str or None, not int"),
        (lambda keyset: keyset.create(reason="a\nb"), ProviderConfigError, "reason must be one line of 1 to 500"),
        (lambda keyset: keyset.rotate(reason=""), ProviderConfigError, "reason must be one line of 1 to 500"),
        (lambda keyset: keyset.rotate(now="yes"), TypeError, "now must be a bool, not str"),
        (lambda keyset: keyset.rotate(key_name=""), ProviderConfigError, "key_name must be 1 to 119 characters"),
        (lambda keyset: keyset.retire(None), TypeError, "key_name must be a str, not NoneType"),
        (lambda keyset: keyset.restore(5), TypeError, "key_name must be a str, not int"),
        (lambda keyset: keyset.destroy("a/b"), ProviderConfigError, "key_name must be 1 to 119 characters"),
    ],
)
def test_a_wrong_argument_is_named(
    call: Callable[[KeysetManager], object], kind: type[Exception], words: str, empty: KeysetFixture
) -> None:
    with pytest.raises(kind) as caught:
        call(empty.manager)
    assert words in str(caught.value)
    assert caught.value.__class__ is kind
    assert empty.store.read("default") is None


def test_a_key_in_the_place_of_a_name_is_not_shown(empty: KeysetFixture) -> None:
    text = Key.generate().reveal_base64().rstrip("=")
    for call in (empty.manager.retire, lambda name: empty.manager.create(key_name=name)):
        with pytest.raises(ProviderConfigError, match="key_name is a key, not a name") as caught:
            call(text)
        assert text[:8] not in str(caught.value)
