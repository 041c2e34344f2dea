"""What somebody who may write the keyset, or where it lies, can bring about."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.keyset_fixture import KeysetFixture
from keyproviders import InvalidKeyError, KeyNotFoundError
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetRefusedError

# -- The text ---------------------------------------------------------------------------------------


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    top = json.loads(file.read_text())
    edit(top)
    file.write_text(json.dumps(top))


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "9000-01-01T00:00:00Z"])
@pytest.mark.parametrize("field", ["created_at", "activate_at"])
def test_a_time_to_which_nothing_can_be_added_is_damage(
    field: str, time: str, setting: KeysetFixture, file: Path
) -> None:
    setting.retire_first()
    change(file, lambda top: top["keys"][1].update({"activate_at": time, field: time}))
    for attempt in (setting.manager.list, setting.manager.rotate, setting.provider().active):
        with pytest.raises(InvalidKeyError, match="is not a time such as"):
            attempt()


def test_the_latest_time_and_the_longest_delay_are_no_failure(setting: KeysetFixture, file: Path) -> None:
    setting.retire_first()
    change(file, lambda top: top.update({"activation_delay_s": 366 * 86_400}))
    change(file, lambda top: top["keys"][1].update({"activate_at": "8999-12-31T23:59:59Z"}))
    assert [key.state for key in setting.manager.list().keys] == ["retired", "active"]
    setting.manager.restore("first")
    assert setting.manager.list().keys[0].state == "active"
    with pytest.raises(KeysetRefusedError, match="8999-12-31T23:59:59Z"):
        setting.manager.rotate()


def test_a_message_names_a_few_of_many_keys(setting: KeysetFixture, file: Path) -> None:
    change(
        file,
        lambda top: top.update(keys=[{**top["keys"][0], "name": f"k{at:04d}"} for at in range(2_000)]),
    )
    for attempt, kind in (
        (lambda: setting.provider().get("never"), KeyNotFoundError),
        (lambda: setting.manager.retire("never"), KeysetRefusedError),
    ):
        with pytest.raises(kind) as caught:
            attempt()
        assert "k1999" in str(caught.value)
        assert "1990 more" in str(caught.value)
        assert len(str(caught.value)) < 1_000


# -- The file ---------------------------------------------------------------------------------------


def test_a_link_that_is_switched_meanwhile_leads_to_no_other_file(tmp_path: Path) -> None:
    keyset, precious, link = (tmp_path / name for name in ("keyset.json", "precious.txt", "link.json"))
    keyset.write_text("one")
    precious.write_text("of the operator")
    link.symlink_to(keyset)

    def lead_to(file: Path) -> None:
        link.unlink()
        link.symlink_to(file)

    class Switched(FileKeysetStore):
        """Whose link is switched back while it waits for the lock."""

        @contextmanager
        def _locked(self, path: str) -> Iterator[None]:
            with super()._locked(path):
                lead_to(keyset)
                yield

    store = Switched(link)
    found = store.read("default")
    assert found is not None
    lead_to(precious)
    assert not store.write("default", "two", expected=found.revision)
    assert (keyset.read_text(), precious.read_text()) == ("one", "of the operator")


# -- The end of a provider --------------------------------------------------------------------------


def test_no_copy_comes_back_after_close(setting: KeysetFixture, file: Path) -> None:
    """A call that is at the point of putting its copies back when close() comes."""
    looked, closed = threading.Event(), threading.Event()

    class Provider(KeysetKeyProvider):
        stops = False

        @property
        def _closed(self) -> bool:
            found = self.__dict__.get("closed", False)
            if self.stops and self._lock.locked() and not found:
                self.stops = False
                looked.set()
                closed.wait(0.2)
            return found

        @_closed.setter
        def _closed(self, value: bool) -> None:
            self.__dict__["closed"] = value

    provider = Provider(FakeKeyWrapper(), FileKeysetStore(file), clock=setting.clock)
    provider.active()
    provider.stops = True
    thread = threading.Thread(target=provider.active)
    thread.start()
    assert looked.wait(60)
    provider.close()
    closed.set()
    thread.join()
    assert provider._copies == {}


# -- Who may read -----------------------------------------------------------------------------------

_ACL = "system.posix_acl_access"
_NOBODY = 65_534


def access_list(**rights: int) -> bytes:
    """An access list of Linux: its version, then kind, rights and id of each entry (acl(5), xattr(7))."""
    ids = (1, rights["owner"], -1), (2, rights["user"], _NOBODY), (4, 0, -1), (16, rights["mask"], -1), (32, 0, -1)
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in ids)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="only Linux has these")
def test_who_was_given_the_file_by_an_access_list_keeps_it(setting: KeysetFixture, file: Path) -> None:
    given = access_list(owner=6, user=4, mask=4)
    try:
        os.setxattr(file, _ACL, given)
    except OSError:
        pytest.skip("this file system has no access lists")
    mode = file.stat().st_mode
    setting.manager.rotate(key_name="second")
    assert os.getxattr(file, _ACL) == given
    assert file.stat().st_mode == mode


def test_a_folder_that_cannot_be_synchronized_is_no_failure(
    setting: KeysetFixture, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have no fsync of a folder; the change is made then."""
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    setting.manager.rotate(key_name="second")
    assert [key.name for key in setting.manager.list().keys] == ["first", "second"]
