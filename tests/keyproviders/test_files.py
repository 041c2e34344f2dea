"""Keys in a file, and in a directory as Kubernetes mounts a secret."""

from __future__ import annotations

import os
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyNotFoundError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
    open_provider,
)
from keyproviders.local import FileKeyProvider

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

A, B, C = (Key.generate(name) for name in ("a", "b", "c"))

posix = pytest.mark.skipif(os.name != "posix", reason="modes and links are those of POSIX")


def entry(key: Key) -> str:
    return f"{key.name}={key.reveal_base64()}"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def folder(path: Path, active: str | None, *keys: Key) -> Path:
    path.mkdir(mode=0o700)
    for key in keys:
        write(path / (key.name or ""), key.reveal_base64() + "\n")
    if active is not None:
        write(path / "ACTIVE", active + "\n")
    return path


# One file.


def test_a_file_holds_one_key_or_several_the_active_one_first_and_comments(tmp_path: Path) -> None:
    provider = FileKeyProvider(
        write(tmp_path / "keys", f"# ours, of 2026\n{entry(A)}\n\n  # older\n{entry(B)}, {entry(C)}\n")
    )
    assert provider.active() == A
    assert [provider.get(name) for name in ("a", "b", "c")] == [A, B, C]
    with pytest.raises(KeyNotFoundError, match="has no key 'z'"):
        provider.get("z")


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "FILE:{}", "file://localhost{}"])
def test_a_file_opens_by_url(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "keys", A.reveal_base64())
    assert open_provider(form.format(path)).active().secret == A.secret


def test_a_url_may_escape_what_a_path_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "my keys", A.reveal_base64())
    assert open_provider(f"file:{path}".replace(" ", "%20")).active().secret == A.secret


@pytest.mark.parametrize("url", ["file:", "file://", "file://otherhost/keys", "file://relative"])
def test_a_url_without_a_path_of_this_machine_is_refused(url: str) -> None:
    with pytest.raises(ProviderConfigError):
        open_provider(url)


@pytest.mark.parametrize("form", ["{}", "a={}", "a={},b", "/keys,{}"])
def test_a_key_where_a_path_belongs_is_refused_and_not_shown(form: str) -> None:
    with pytest.raises(ProviderConfigError, match="a key was given instead of the path") as caught:
        FileKeyProvider(form.format(A.reveal_base64()))
    assert A.reveal_base64()[:12] not in str(caught.value)


@pytest.mark.parametrize("path", [None, 5, b"/keys"])
def test_a_path_of_a_wrong_type_is_a_type_error(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be"):
        FileKeyProvider(path)


def test_construction_does_no_io() -> None:
    FileKeyProvider("/no/such/place/anywhere")


def test_a_file_is_read_again_when_it_changes_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyproviders.local import file as local

    reads = []
    real = local.read_file
    monkeypatch.setattr(local, "read_file", lambda path, *how, **more: reads.append(path) or real(path, *how, **more))
    path = write(tmp_path / "keys", entry(A))
    provider = FileKeyProvider(path)
    for _ in range(3):
        assert provider.active() == A
    assert len(reads) == 1
    write(tmp_path / "new", f"{entry(B)}\n{entry(A)}").replace(path)
    assert provider.active() == B
    assert provider.get("a") == A
    assert len(reads) == 2


@posix
def test_a_link_that_points_elsewhere_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "one", entry(A))
    write(tmp_path / "two", entry(B))
    link = tmp_path / "keys"
    link.symlink_to("one")
    provider = FileKeyProvider(link)
    assert provider.active() == A
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(link)
    assert provider.active() == B


def test_a_file_that_is_not_there_yet_may_come(tmp_path: Path) -> None:
    provider = FileKeyProvider(tmp_path / "keys")
    with pytest.raises(KeyUnavailableError, match=r"does not exist \(yet\)"):
        provider.active()
    write(tmp_path / "keys", entry(A))
    assert provider.active() == A


@pytest.mark.parametrize("text", ["", "# nothing\n", "{half}", "a={a}\nb=", "a={a}\na={b}", "ä={a}", "\0" * 44])
def test_a_half_written_or_bad_file_is_no_key_and_shows_nothing(tmp_path: Path, text: str) -> None:
    a, b = A.reveal_base64(), B.reveal_base64()
    path = write(tmp_path / "keys", text.format(a=a, b=b, half=a[:30]))
    try:
        FileKeyProvider(path).active()
    except InvalidKeyError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    else:
        pytest.fail("it was read")
    ours = [step for step in shown.split("\n  File ") if "test_files.py" not in step]
    for secret in (a[:12], b[:12]):
        assert secret not in "".join(ours)


def test_permission_errors_are_denials_and_other_failures_of_the_system_outages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keyproviders.local import file as local

    path = write(tmp_path / "keys", entry(A))
    for error, kind in ((PermissionError(13, "no"), KeyAccessDeniedError), (OSError(5, "I/O"), KeyUnavailableError)):

        def fail(*_: object, failure: OSError = error, **__: object) -> bytes:
            raise failure

        monkeypatch.setattr(local, "read_file", fail)
        with pytest.raises(kind, match="cannot be read"):
            FileKeyProvider(path).active()


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyproviders.local import file as local

    path = write(tmp_path / "keys", entry(A))
    real = local.read_file
    rewritten: list[int] = []

    def overtaken(name: str, *how: Any, **more: Any) -> bytes:
        content = real(name, *how, **more)
        if len(rewritten) < 2:
            rewritten.append(1)
            write(tmp_path / "new", entry(B)).replace(path)
        return content

    monkeypatch.setattr(local, "read_file", overtaken)
    assert FileKeyProvider(path).active() == B


def test_a_file_that_never_rests_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyproviders.local import file as local

    path = write(tmp_path / "keys", entry(A))
    real = local.read_file

    def overtaken(name: str, *how: Any, **more: Any) -> bytes:
        content = real(name, *how, **more)
        write(tmp_path / "new", entry(B)).replace(path)
        return content

    monkeypatch.setattr(local, "read_file", overtaken)
    with pytest.raises(KeyUnavailableError, match="keeps changing"):
        FileKeyProvider(path).active()


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_it_warns_once_when_others_may_write_the_file(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "keys", entry(A))
    path.chmod(mode)
    provider = FileKeyProvider(path)
    with pytest.warns(UserWarning, match="users other than the owner may write"):
        provider.active()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path.write_text(entry(B))
        assert provider.active() == B


# A directory.


def test_a_directory_has_one_key_per_file_and_a_file_that_names_the_active_one(tmp_path: Path) -> None:
    provider = FileKeyProvider(folder(tmp_path / "keys", "b", A, B, C))
    assert provider.active() == B
    assert [provider.get(name) for name in ("a", "b", "c")] == [A, B, C]


def test_a_single_key_needs_nothing_that_names_it(tmp_path: Path) -> None:
    assert FileKeyProvider(folder(tmp_path / "keys", None, A)).active() == A


def test_a_changed_directory_is_noticed(tmp_path: Path) -> None:
    path = folder(tmp_path / "keys", "a", A)
    provider = FileKeyProvider(path)
    assert provider.active() == A
    write(path / "b", B.reveal_base64())
    assert provider.active() == A
    assert provider.get("b") == B
    write(tmp_path / "next", "b").replace(path / "ACTIVE")
    assert provider.active() == B


@posix
def test_a_secret_that_kubernetes_mounts_is_read_and_its_swap_noticed(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir(mode=0o700)
    folder(mount / "..2026_11_23_1", "a", A)
    (mount / "..data").symlink_to("..2026_11_23_1")
    for name in ("ACTIVE", "a"):
        (mount / name).symlink_to(Path("..data", name))
    provider = FileKeyProvider(mount)
    assert provider.active() == A
    folder(mount / "..2026_11_23_2", "b", A, B)
    (mount / "..data_tmp").symlink_to("..2026_11_23_2")
    (mount / "..data_tmp").replace(mount / "..data")
    (mount / "b").symlink_to(Path("..data", "b"))
    assert provider.active() == B
    assert provider.get("a") == A


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: (path / "ACTIVE").unlink(), "2 keys but no file ACTIVE"),
        (lambda path: write(path / "ACTIVE", "z"), "names a key that is not there; the folder has a, b"),
        (lambda path: write(path / "ACTIVE", A.reveal_base64()), "names a key that is not there"),
        (lambda path: write(path / "a", A.reveal_base64()[:30]), "the file a is not a key"),
        (lambda path: write(path / "a", entry(A)), "the file a is not a key"),
        (lambda path: write(path / "a key", A.reveal_base64()), "is not a valid one"),
        (lambda path: write(path / "a", "ä"), "must be plain text"),
        (lambda path: [one.unlink() for one in path.iterdir()], "has no file with a key"),
    ],
)
def test_a_directory_that_makes_no_sense_is_no_key(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    path = folder(tmp_path / "keys", "a", A, B)
    spoil(path)
    with pytest.raises(InvalidKeyError, match=words) as caught:
        FileKeyProvider(path).active()
    assert A.reveal_base64()[:12] not in str(caught.value)


@posix
def test_it_warns_when_others_may_add_files_to_the_directory(tmp_path: Path) -> None:
    path = folder(tmp_path / "keys", None, A)
    path.chmod(0o777)
    with pytest.warns(UserWarning, match="users other than the owner may write"):
        FileKeyProvider(path).active()


@posix
def test_a_file_system_that_nobody_can_write_to_is_no_reason_to_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Kubernetes mounts a secret with mode 1777, and read-only.
    path = folder(tmp_path / "keys", None, A)
    path.chmod(0o1777)

    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
    assert FileKeyProvider(path).active() == A


# Behind a ring.


async def test_a_bad_edit_does_not_reach_those_who_use_the_ring(tmp_path: Path) -> None:
    path = write(tmp_path / "keys", entry(A))
    async with KeyRing.from_url(f"file:{path}") as ring:
        write(path, "half")
        with pytest.raises(InvalidKeyError):
            await ring.refresh()
        assert await ring.active() == A
        write(path, f"{entry(B)}\n{entry(A)}")
        assert await ring.refresh() == B
        assert await ring.get(A.kid) == A
