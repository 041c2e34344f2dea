"""A keyset in a file: compare-and-swap, whole or not at all, and everything that a file system can say."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyproviders import InvalidKeyError, Key, KeyAccessDeniedError, KeyUnavailableError, ProviderConfigError
from keyproviders.keyset import FileKeysetStore, KeysetStore, StoredKeyset
from keyproviders.keyset.stores import file as file_store
from keyproviders.keyset.stores.base import MOST_BYTES

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


NOBODY = 65_534


@pytest.fixture
def without_rights() -> Iterator[Path]:
    """A folder of one's own, as somebody who may not do everything: root becomes another user for the test."""
    was_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        if was_root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if was_root:
                os.seteuid(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyset.json"


@pytest.fixture
def store(path: Path) -> FileKeysetStore:
    return FileKeysetStore(path)


def written(store: FileKeysetStore, text: str = "one") -> StoredKeyset:
    before = store.read("default")
    assert store.write("default", text, expected=None if before is None else before.revision)
    found = store.read("default")
    assert found is not None
    return found


# -- Reading and writing ----------------------------------------------------------------------------


def test_it_is_a_store(store: FileKeysetStore, path: Path) -> None:
    assert isinstance(store, KeysetStore)
    assert store.place == f"file:{path}"
    assert repr(store) == f"<FileKeysetStore file:{path}>"


def test_where_there_is_no_file_there_is_no_keyset(store: FileKeysetStore) -> None:
    assert store.read("default") is None


def test_what_was_written_is_read_and_its_revision_is_the_hash_of_its_bytes(store: FileKeysetStore) -> None:
    assert store.write("default", "one\n", expected=None)
    assert store.read("default") == StoredKeyset("one\n", hashlib.sha256(b"one\n").hexdigest())


def test_who_expects_another_revision_changes_nothing(store: FileKeysetStore) -> None:
    one = written(store, "one")
    assert not store.write("default", "two", expected=None)
    assert not store.write("default", "two", expected="0" * 64)
    assert store.read("default") == one
    assert store.write("default", "two", expected=one.revision)
    assert not store.write("default", "three", expected=one.revision)


def test_who_expects_a_file_that_is_gone_makes_none(store: FileKeysetStore, path: Path) -> None:
    one = written(store)
    path.unlink()
    assert not store.write("default", "two", expected=one.revision)
    assert not path.exists()


def test_a_file_without_a_byte_is_a_file(store: FileKeysetStore, path: Path) -> None:
    path.touch()
    assert store.read("default") == StoredKeyset("", hashlib.sha256(b"").hexdigest())
    assert not store.write("default", "one", expected=None)


def test_of_many_threads_that_write_at_once_one_wins(store: FileKeysetStore) -> None:
    won: list[bool] = []
    start = threading.Barrier(8)

    def write(at: int) -> None:
        start.wait()
        won.append(store.write("default", f"text {at}", expected=None))

    threads = [threading.Thread(target=write, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


# -- On the disk ------------------------------------------------------------------------------------


def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(store: FileKeysetStore, path: Path) -> None:
    before = os.umask(0)
    try:
        written(store)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o600}


def test_the_mode_that_a_file_was_given_stays(store: FileKeysetStore, path: Path) -> None:
    written(store)
    path.chmod(0o640)
    written(store, "two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@needs_root
def test_the_owner_that_a_file_was_given_stays(store: FileKeysetStore, path: Path) -> None:
    written(store)
    os.chown(path, 12_345, 54_321)
    written(store, "two")
    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 54_321)


def test_who_cannot_keep_the_owner_may_not_change_the_file(
    store: FileKeysetStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(store)
    status = os.stat_result((0o100640, 1, 1, 1, os.getuid() + 1, 7, 3, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda self, **_: status)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(
        KeyAccessDeniedError, match=rf"belongs to user {os.getuid() + 1} and group 7, .* make the change as"
    ):
        store.write("default", "two", expected=one.revision)
    monkeypatch.undo()
    assert store.read("default") == one
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["keyset.json", "keyset.json.lock"]


def test_a_failure_in_the_middle_leaves_the_old_text_and_nothing_else(
    store: FileKeysetStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(store)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyUnavailableError, match=r"keyset.json cannot be changed: No space left on device"):
        store.write("default", "two", expected=one.revision)
    assert store.read("default") == one
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["keyset.json", "keyset.json.lock"]


def test_what_a_killed_process_left_behind_is_no_obstacle(store: FileKeysetStore, path: Path) -> None:
    one = written(store)
    Path(f"{path}.new").write_text("half of a")
    assert store.read("default") == one
    assert written(store, "two").text == "two"
    assert not Path(f"{path}.new").exists()


def test_a_reader_never_sees_half_a_file(store: FileKeysetStore, path: Path) -> None:
    texts = {letter * 200_000 for letter in "abc"}
    written(store, "a" * 200_000)
    seen: set[str] = set()
    ended = threading.Event()

    def read() -> None:
        reader = FileKeysetStore(path)
        while not ended.is_set():
            found = reader.read("default")
            seen.add("nothing" if found is None else found.text)

    thread = threading.Thread(target=read)
    thread.start()
    for at in range(60):
        written(store, "abc"[at % 3] * 200_000)
    ended.set()
    thread.join()
    assert seen <= texts


# -- Links ------------------------------------------------------------------------------------------


def test_a_mount_of_kubernetes_is_read_through_its_links_also_after_it_changed(tmp_path: Path) -> None:
    for version, text in (("..1", "one"), ("..2", "two")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keyset.json").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keyset.json").symlink_to("..data/keyset.json")
    store = FileKeysetStore(tmp_path / "keyset.json")
    found = store.read("default")
    assert found is not None
    assert found.text == "one"
    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").replace(tmp_path / "..data")
    found = store.read("default")
    assert found is not None
    assert found.text == "two"


def test_a_change_through_a_link_changes_the_file_and_leaves_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "keyset.json"
    link.symlink_to("real/keys.json")
    store = FileKeysetStore(link)
    assert store.read("default") is None
    written(store, "one")
    written(store, "two")
    assert link.is_symlink()
    assert (tmp_path / "real" / "keys.json").read_text() == "two"


def test_a_link_in_the_place_of_the_lock_is_not_followed(store: FileKeysetStore, path: Path) -> None:
    Path(f"{path}.lock").symlink_to(path.parent / "elsewhere")
    with pytest.raises(ProviderConfigError, match="cannot be changed"):
        store.write("default", "one", expected=None)
    assert not (path.parent / "elsewhere").exists()


# -- What a file system can say ---------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_a_mistake_in_a_setting(tmp_path: Path) -> None:
    store = FileKeysetStore(tmp_path / "nowhere" / "keyset.json")
    with pytest.raises(ProviderConfigError, match=r"keyset.json cannot be read: No such file or directory; check the"):
        store.read("default")
    with pytest.raises(ProviderConfigError, match=r"keyset.json cannot be changed: No such file or directory"):
        store.write("default", "one", expected=None)


@pytest.mark.parametrize("kind", ["folder", "pipe", "below a file", "loop of links"])
def test_what_is_no_file_is_a_mistake_in_a_setting(kind: str, path: Path) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop of links":
        path.symlink_to(path)
    else:
        path.touch()
        path = path / "keyset.json"
    with pytest.raises(ProviderConfigError, match="file:"):
        FileKeysetStore(path).read("default")


def test_a_file_that_may_not_be_read_is_denied(without_rights: Path) -> None:
    store = FileKeysetStore(without_rights / "keyset.json")
    written(store)
    (without_rights / "keyset.json").chmod(0)
    with pytest.raises(KeyAccessDeniedError, match="cannot be read: Permission denied; check the owner and mode"):
        store.read("default")


def test_reading_needs_no_right_to_write(without_rights: Path) -> None:
    store = FileKeysetStore(without_rights / "keyset.json")
    one = written(store)
    (without_rights / "keyset.json").chmod(0o400)
    (without_rights / "keyset.json.lock").chmod(0)
    without_rights.chmod(0o500)
    assert store.read("default") == one
    with pytest.raises(KeyAccessDeniedError, match="cannot be changed: Permission denied"):
        store.write("default", "two", expected=one.revision)
    without_rights.chmod(0o700)


def test_who_may_not_write_in_the_folder_changes_nothing(without_rights: Path) -> None:
    store = FileKeysetStore(without_rights / "keyset.json")
    one = written(store)
    without_rights.chmod(0o500)
    with pytest.raises(KeyAccessDeniedError, match="check the owner and mode of the file and its folder"):
        store.write("default", "two", expected=one.revision)
    without_rights.chmod(0o700)
    assert store.read("default") == one


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (13, KeyAccessDeniedError),
        (1, KeyAccessDeniedError),
        (30, KeyAccessDeniedError),
        (5, KeyUnavailableError),
        (24, KeyUnavailableError),
        (116, KeyUnavailableError),
    ],
)
def test_each_failure_of_the_file_system_has_its_error(
    number: int, kind: type[Exception], store: FileKeysetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(kind, match=f"cannot be read: {os.strerror(number)}") as caught:
        store.read("default")
    assert caught.value.__context__ is None
    with pytest.raises(kind, match=f"cannot be changed: {os.strerror(number)}"):
        store.write("default", "one", expected=None)


def test_a_file_that_is_too_long_or_no_text_is_no_keyset(store: FileKeysetStore, path: Path) -> None:
    path.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(InvalidKeyError, match=f"has more than {MOST_BYTES} bytes"):
        store.read("default")
    path.write_bytes(b"{\xff\x00")
    with pytest.raises(InvalidKeyError, match="bytes that are not ASCII; restore its last good copy"):
        store.read("default")


# -- The lock ---------------------------------------------------------------------------------------


HOLD = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has the lock until its end."""
    command = [sys.executable, "-c", HOLD, f"{path}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def test_a_lock_that_another_process_keeps_is_waited_for_and_then_named(
    store: FileKeysetStore,
    path: Path,
    other: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_store, "_LOCK_WAIT_S", 0.1)
    path.write_text("one")
    with pytest.raises(KeyUnavailableError, match=r"is being changed by another process, which has held its lock for"):
        store.write("default", "two", expected=hashlib.sha256(b"one").hexdigest())
    found = store.read("default")
    assert found is not None
    assert found.text == "one"


def test_a_lock_ends_with_the_process_that_had_it(store: FileKeysetStore, other: subprocess.Popen[str]) -> None:
    other.kill()
    assert store.write("default", "one", expected=None)


def test_where_files_cannot_be_locked_a_keyset_is_read_and_not_changed(
    store: FileKeysetStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("one")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    found = store.read("default")
    assert found is not None
    with pytest.raises(ProviderConfigError, match="cannot be changed on this platform, which has no fcntl") as caught:
        store.write("default", "two", expected=found.revision)
    assert caught.value.__context__ is None


# -- Wrong arguments --------------------------------------------------------------------------------


class OfBytes:
    def __fspath__(self) -> bytes:
        return b"/etc/keyset.json"


@pytest.mark.parametrize("given", [None, 5, b"/etc/keyset.json", OfBytes()], ids=lambda given: type(given).__name__)
def test_a_path_of_another_type_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="path must"):
        FileKeysetStore(given)


@pytest.mark.parametrize("given", ["", "a\0b", "/etc/agents/"])
def test_what_can_be_no_path_is_refused(given: str) -> None:
    with pytest.raises(ProviderConfigError, match="is empty, ends with a slash or contains a NUL"):
        FileKeysetStore(given)


def test_a_key_in_the_place_of_a_path_is_not_shown() -> None:
    text = Key.generate().reveal_base64()
    with pytest.raises(ProviderConfigError, match="a key was given instead of the path") as caught:
        FileKeysetStore(text)
    assert text[:8] not in str(caught.value)


def test_a_text_or_a_revision_of_another_type_is_a_type_error(store: FileKeysetStore) -> None:
    with pytest.raises(TypeError, match="text must be a str, not bytes"):
        store.write("default", b"one", expected=None)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="expected must be a revision or None, not int"):
        store.write("default", "one", expected=5)  # type: ignore[arg-type]  # what is tested
