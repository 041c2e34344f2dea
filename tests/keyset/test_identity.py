"""Which keyset it is, and which revision of it: what a process refuses that was put in the place of what it knows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.doctor.examination import examine
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.keyset_fixture import DELAY_S, KeysetFixture
from keyproviders import InvalidKeyError, KeyRing, ProviderConfigError
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetManager, StoredKeyset

OTHER = "0" * 32
OF_0_1_0 = Path(__file__).parent / "data" / "keyset-0.1.0.json"


def id_of(file: Path) -> str:
    return str(json.loads(file.read_text())["id"])


def put(file: Path, **fields: Any) -> None:
    """The keyset with other values in some fields; None leaves a field out."""
    top = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({field: value for field, value in top.items() if value is not None}))


# -- Another keyset ---------------------------------------------------------------------------------


def test_a_ring_of_production_refuses_the_keyset_of_staging_under_one_key_encryption_key(tmp_path: Path) -> None:
    """Both are called `default`, and one key-encryption key opens both."""
    production, staging = (KeysetFixture.of(FileKeysetStore(tmp_path / name)) for name in ("production", "staging"))
    for setting in (production, staging):
        setting.manager.create(key_name="first")
    mine = id_of(tmp_path / "production")
    assert production.provider(keyset_id=mine).active().name == "first"
    strict = KeysetKeyProvider(production.wrapper, staging.store, keyset_id=mine)
    for call in (strict.active, lambda: strict.get("first"), strict.examine):
        with pytest.raises(ProviderConfigError, match=rf"has the id {id_of(tmp_path / 'staging')}, but keyset_id is"):
            call()
    assert production.wrapper.calls["unwrap"] == 1


def test_a_key_of_one_keyset_does_not_open_in_another_of_the_same_name(tmp_path: Path) -> None:
    settings = [KeysetFixture.of(FileKeysetStore(tmp_path / name)) for name in ("a", "b")]
    for setting in settings:
        setting.manager.create(key_name="first")
    put(tmp_path / "a", keys=json.loads((tmp_path / "b").read_text())["keys"])
    with pytest.raises(InvalidKeyError, match="cannot open the key 'first'"):
        settings[0].provider().active()


def test_an_id_that_was_written_over_opens_no_key(setting: KeysetFixture, file: Path) -> None:
    put(file, id=OTHER)
    with pytest.raises(InvalidKeyError, match="cannot open the key 'first'"):
        setting.provider(keyset_id=OTHER).active()


def test_with_an_id_in_the_url_a_keyset_of_format_1_is_refused(tmp_path: Path) -> None:
    provider = KeysetKeyProvider(FakeKeyWrapper(), FileKeysetStore(OF_0_1_0), keyset_id=OTHER)
    with pytest.raises(ProviderConfigError, match=r"is of format 1, which has no id, but keyset_id is 0{32}"):
        provider.active()


def test_an_id_that_was_stripped_is_noticed_by_whoever_saw_it(setting: KeysetFixture, file: Path) -> None:
    provider = setting.provider()
    key = provider.active()
    whole = file.read_text()
    put(file, format=1, id=None, revision=None, destroy_after_s=None, changes=None)
    for call in (provider.active, setting.manager.list, setting.manager.upgrade, setting.manager.rotate):
        with pytest.raises(InvalidKeyError, match="is of format 1, which has no id, but this process saw it with the"):
            call()
    # Whoever starts now goes no further than to the keys, which are bound to the id.
    with pytest.raises(InvalidKeyError, match="cannot open the key 'first'"):
        setting.provider().active()
    file.write_text(whole)
    assert provider.active() == key


def test_the_first_id_that_a_provider_sees_is_the_only_one(setting: KeysetFixture, file: Path, tmp_path: Path) -> None:
    provider = setting.provider()
    key = provider.active()
    other = KeysetFixture.of(FileKeysetStore(tmp_path / "other"))
    other.manager.create(key_name="first")
    whole = file.read_text()
    file.write_text((tmp_path / "other").read_text())
    with pytest.raises(
        InvalidKeyError, match=rf"but this process saw it with the id {json.loads(whole)['id']}; restore"
    ):
        provider.active()
    # A restart is what lets another one in.
    assert setting.provider().active() != key
    file.write_text(whole)
    assert provider.active() == key


def test_a_provider_goes_from_format_1_to_2_once(file: Path) -> None:
    text = OF_0_1_0.read_text()
    file.write_text(text)
    setting = KeysetFixture.of(FileKeysetStore(file))
    provider = setting.provider()
    before = provider.active()
    setting.manager.upgrade()
    assert provider.active() == before
    file.write_text(text)
    with pytest.raises(InvalidKeyError, match="is of format 1, which has no id, but this process saw it with the id"):
        provider.active()
    KeysetManager(FakeKeyWrapper(), FileKeysetStore(file)).upgrade()
    with pytest.raises(InvalidKeyError, match="but this process saw it with the id"):
        provider.active()


def test_a_fork_knows_what_its_parent_saw(setting: KeysetFixture, file: Path) -> None:
    provider = setting.provider()
    old = file.read_text()
    setting.manager.rotate(now=True)
    provider.active()
    provider.after_fork()
    file.write_text(old)
    with pytest.raises(InvalidKeyError, match="this process saw revision 2"):
        provider.active()


# -- An older copy ----------------------------------------------------------------------------------


def test_no_process_goes_back_behind_the_revision_that_it_saw(setting: KeysetFixture, file: Path) -> None:
    provider = setting.provider()
    old = file.read_text()
    setting.manager.rotate(key_name="second", now=True)
    new = file.read_text()
    assert provider.active().name == "second"
    file.write_text(old)
    for call in (provider.active, lambda: provider.get("first"), setting.manager.list, setting.manager.rotate):
        with pytest.raises(
            InvalidKeyError,
            match=r"is at revision 1, but this process saw revision 2: an older copy was restored; restore the newest"
            r" one, or, if this is intended, restart every process that uses it",
        ):
            call()
    assert file.read_text() == old
    # That holds also for a copy that was read before, and need not be read again.
    with pytest.raises(InvalidKeyError, match="saw revision 2"):
        provider.active()
    file.write_text(new)
    assert provider.active().name == "second"


def test_a_process_that_starts_does_not_notice_an_older_copy(setting: KeysetFixture, file: Path) -> None:
    """As SECURITY.md says."""
    old = file.read_text()
    setting.manager.rotate(key_name="second", now=True)
    setting.provider().active()
    file.write_text(old)
    assert setting.provider().active().name == "first"


def test_a_ring_goes_on_with_its_keys_when_an_older_copy_or_another_keyset_was_put_back(
    setting: KeysetFixture, file: Path, tmp_path: Path
) -> None:
    old = file.read_text()
    setting.supersede("second")
    other = KeysetFixture.of(FileKeysetStore(tmp_path / "other"))
    other.manager.create(key_name="first")
    with closing(KeyRing(setting.provider(keyset_id=id_of(file)), clock=setting.clock)) as ring:
        key = ring.active_sync()
        for text in (old, (tmp_path / "other").read_text(), OF_0_1_0.read_text()):
            file.write_text(text)
            setting.later(290)
            assert ring.active_sync() == key
            assert ring.get_sync(key.kid) == key


def test_an_answer_that_was_overtaken_by_a_change_is_no_older_copy(setting: KeysetFixture, file: Path) -> None:
    """One thread asks the store before a change and hears after it, another asks and hears in between."""
    asked, answer = threading.Event(), threading.Event()

    class Slow(FileKeysetStore):
        waits = False

        def read(self, name: str) -> StoredKeyset | None:
            found = super().read(name)
            if self.waits:
                self.waits = False
                asked.set()
                assert answer.wait(60)
            return found

    store = Slow(file)
    provider = KeysetKeyProvider(setting.wrapper, store, clock=setting.clock)
    provider.active()
    store.waits = True
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(provider.active().name))
    thread.start()
    assert asked.wait(60)
    setting.manager.rotate(key_name="second", now=True)
    assert provider.active().name == "second"
    answer.set()
    thread.join()
    assert found == ["first"]
    assert provider.active().name == "second"


# -- What is said of it -----------------------------------------------------------------------------


def test_the_provider_tells_doctor_the_id_and_what_to_do_with_it(setting: KeysetFixture, file: Path) -> None:
    mine = id_of(file)
    assert setting.provider().examine() == [
        f"the keyset 'default' has the id {mine}; add keyset_id={mine} to the URL",
        "it is at revision 1: a process that saw a later revision refuses it until restarted",
    ]
    assert setting.provider(keyset_id=mine).examine()[0] == f"the keyset 'default' has the id {mine}"
    old = KeysetKeyProvider(FakeKeyWrapper(), FileKeysetStore(OF_0_1_0)).examine()
    assert len(old) == 1
    assert "is of format 1: it has no id" in old[0]
    assert "`encrypted-sessions keys upgrade`" in old[0]


async def test_doctor_prints_the_id(setting: KeysetFixture, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    found = await examine(f"aws-kms:fake/agents?keyset=file:{file}")
    assert found.ok
    assert f"add keyset_id={id_of(file)} to the URL" in " ".join(found.remarks)
    found = await examine(f"aws-kms:fake/agents?keyset=file:{file}&keyset_id={OTHER}")
    assert not found.ok
    assert any(f"keyset_id is {OTHER}" in check.found for check in found.checks)


# -- Upgrade ----------------------------------------------------------------------------------------


@pytest.fixture
def old(file: Path) -> KeysetFixture:
    """A keyset of 0.1.0, with three keys."""
    file.write_text(OF_0_1_0.read_text())
    return KeysetFixture.of(FileKeysetStore(file))


def test_upgrade_gives_an_id_that_is_bound_to_each_key_and_changes_no_key(old: KeysetFixture, file: Path) -> None:
    before = {name: old.provider().get(name) for name in ("first", "second", "third")}
    provider = old.provider()
    provider.active()
    done = old.manager.upgrade(destroy_after_s=86_400, reason="CHG-1")
    assert (done.format, done.id, done.revision, done.destroy_after_s) == (2, id_of(file), 1, 86_400)
    assert [(one.what, one.key, one.reason) for one in done.changes] == [("upgrade", None, "CHG-1")]
    assert done == old.manager.list()
    for reader in (provider, old.provider(), old.provider(keyset_id=done.id)):
        assert {name: reader.get(name) for name in before} == before
    text = file.read_text()
    assert old.manager.upgrade() == done
    assert file.read_text() == text
    assert dict(old.wrapper.calls)["rebind"] == 3


def test_upgrade_leaves_retired_keys_retired_and_destroyed_ones_gone(old: KeysetFixture) -> None:
    old.manager.retire("first")
    old.manager.retire("second")
    old.manager.destroy("first")
    before = old.manager.list()
    after = old.manager.upgrade()
    assert after.keys == before.keys
    assert old.manager.restore("second").state == "decrypt-only"
    assert old.provider().get("second").name == "second"


@pytest.mark.parametrize(
    "change",
    [
        lambda manager: manager.rotate(key_name="fourth", now=True),
        lambda manager: manager.rewrap(),
        lambda manager: manager.retire("first"),
    ],
)
def test_no_change_but_upgrade_changes_the_format(
    change: Callable[[KeysetManager], object], old: KeysetFixture
) -> None:
    change(old.manager)
    found = old.manager.list()
    assert (found.format, found.id, found.changes) == (1, None, ())
    assert json.loads(old.text())["format"] == 1
    assert old.wrapper.calls["rebind"] == 0
    assert old.provider().active().name in {"third", "fourth"}


def test_upgrade_needs_a_wrapper_that_can_bind_a_key_anew(old: KeysetFixture) -> None:
    class OfTheTimeOf010:
        place = "fake:old"

        def __init__(self) -> None:
            wrapper = FakeKeyWrapper()
            self.generate, self.unwrap, self.rewrap = wrapper.generate, wrapper.unwrap, wrapper.rewrap

    before = old.text()
    manager = KeysetManager(OfTheTimeOf010(), old.store, clock=old.clock)
    with pytest.raises(Exception, match=r"fake:old cannot bind the keys .* its wrapper has no rebind\(\); nothing was"):
        manager.upgrade()
    assert old.text() == before
    # It needs that for nothing else, also in a keyset that has an id.
    manager.rotate(key_name="fourth", now=True)
    old.manager.upgrade()
    manager.rewrap()
    assert manager.rotate(key_name="fifth", now=True).state == "active"


def test_an_upgrade_that_was_overtaken_binds_only_what_it_has_not_bound(old: KeysetFixture, file: Path) -> None:
    class Contested(FileKeysetStore):
        lost = False

        def write(self, name: str, text: str, *, expected: str | None) -> bool:
            if not self.lost:
                self.lost = True
                KeysetManager(FakeKeyWrapper(), FileKeysetStore(file)).rotate(key_name="fourth", now=True)
            return super().write(name, text, expected=expected)

    wrapper = FakeKeyWrapper()
    KeysetManager(wrapper, Contested(file)).upgrade()
    assert wrapper.calls["rebind"] == 4
    provider = old.provider(keyset_id=id_of(file))
    assert [provider.get(name).name for name in ("first", "second", "third", "fourth")] == [*old.states()]


def test_a_key_that_is_added_while_the_keyset_is_upgraded_is_bound_to_the_id(old: KeysetFixture, file: Path) -> None:
    class Contested(FileKeysetStore):
        lost = False

        def write(self, name: str, text: str, *, expected: str | None) -> bool:
            if not self.lost:
                self.lost = True
                KeysetManager(FakeKeyWrapper(), FileKeysetStore(file)).upgrade()
            return super().write(name, text, expected=expected)

    KeysetManager(FakeKeyWrapper(), Contested(file), clock=old.clock).rotate(key_name="fourth", now=True)
    assert old.provider(keyset_id=id_of(file)).get("fourth").name == "fourth"
    old.later(2 * DELAY_S)
    assert old.provider().active().name == "fourth"


def test_a_failed_upgrade_changes_nothing(old: KeysetFixture) -> None:
    before = old.text()
    old.wrapper.failure = InvalidKeyError("damaged")
    with pytest.raises(InvalidKeyError, match="damaged"):
        old.manager.upgrade()
    assert old.text() == before


def test_upgrade_takes_no_key_of_a_key_encryption_key_that_the_url_does_not_name(old: KeysetFixture) -> None:
    before = old.text()
    foreign = KeysetManager(FakeKeyWrapper("fake/other"), old.store)
    with pytest.raises(ProviderConfigError, match="add also_kek=fake/agents"):
        foreign.upgrade()
    assert old.text() == before
