"""Files that others can read or replace, keys that anybody can guess: warned of, and refused where it is strict."""

from __future__ import annotations

import base64
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from encrypted_sessions_tests.scripted_vault import ScriptedVault
from keyproviders import (
    InsecurePermissionsWarning,
    InvalidKeyError,
    Key,
    KeyRing,
    ProviderConfigError,
    WeakKeyWarning,
    open_provider,
    weakness_of,
)
from keyproviders.keyset import FileKeysetStore
from keyproviders.local import FileKeyProvider, StaticKeyProvider
from keyproviders.vault import VaultKvKeyProvider

posix = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
KEY = Key.generate("a")

WEAK = {
    "zeros": bytes(32),
    "one byte": b"\xab" * 32,
    "counting": bytes(range(32)),
    "counting down": bytes(range(100, 68, -1)),
    "few bytes": b"\x01\x02\xfe" * 10 + b"\x01\x02",
    "twice the same": os.urandom(16) * 2,
    "a sentence": b"this is not a very good key, no!",
    "another sentence": "das ist kein guter Schlüssel, nö".encode()[:32],
}


def written(path: Path, text: str = "", mode: int = 0o600) -> Path:
    path.write_text(text or f"a={KEY.reveal_base64()}")
    path.chmod(mode)
    return path


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ProviderConfigError, match="strict") as caught:
        call()
    return str(caught.value)


# Files.


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660, 0o666])
def test_a_key_file_that_others_may_read_or_write_is_warned_of_once_a_path_and_process(tmp_path: Path, mode: int):
    path = written(tmp_path / "keys", mode=mode)
    with pytest.warns(InsecurePermissionsWarning, match=f"{path}.*chmod go-rwx") as caught:
        FileKeyProvider(path).active()
    assert [Path(one.filename).name for one in caught] == ["test_strict.py"]
    FileKeyProvider(path).active()
    with pytest.warns(InsecurePermissionsWarning):
        FileKeyProvider(written(tmp_path / "others", mode=mode)).active()


def give_to_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(path, 12_345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12_345)


@posix
def test_a_key_file_of_another_user_is_warned_of_and_refused_where_it_is_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = written(tmp_path / "keys")
    give_to_another(path, monkeypatch)
    with pytest.warns(InsecurePermissionsWarning, match=f"{path} belongs to another user .*chown"):
        assert FileKeyProvider(path).active().secret == KEY.secret
    assert "belongs to another user" in refused(open_provider(f"file:{path}", strict=True).active)


@posix
@pytest.mark.parametrize("mode", [0o700, 0o1777])
def test_a_directory_of_another_user_with_keys_in_it_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
):
    """Its owner may put another file in the place of one, in a sticky directory too."""
    for kind in ("file", "directory"):
        folder = tmp_path / kind
        folder.mkdir()
        path = written(folder / "keys", KEY.reveal_base64())
        folder.chmod(mode)
        give_to_another(folder, monkeypatch)
        of = path if kind == "file" or mode == 0o1777 else folder
        with pytest.warns(InsecurePermissionsWarning, match=f"{folder} belongs to another user"):
            FileKeyProvider(of).active()
        refused(open_provider(f"file:{of}", strict=True).active)


@posix
def test_a_key_file_of_root_is_as_good_as_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path / "keys")
    owner = path.stat().st_uid
    if owner == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_provider(f"file:{path}", strict=True).active()


@posix
def test_a_directory_where_others_may_put_another_file_in_its_place_is_warned_of(tmp_path: Path):
    for mode in (0o770, 0o707, 0o777):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        path = written(folder / "keys")
        folder.chmod(mode)
        with pytest.warns(InsecurePermissionsWarning, match=f"{folder}.*chmod go-w"):
            FileKeyProvider(path).active()
        refused(open_provider(f"file:{path}", strict=True).active)


@posix
def test_in_a_sticky_directory_nobody_replaces_the_files_of_others(tmp_path: Path):
    path = written(tmp_path / "keys")
    tmp_path.chmod(0o1777)
    assert FileKeyProvider(path).active() == KEY


@posix
def test_a_file_behind_a_link_is_looked_at_where_it_lies_and_where_the_link_does(tmp_path: Path):
    open_to_all, closed = tmp_path / "open", tmp_path / "closed"
    for folder in (open_to_all, closed):
        folder.mkdir()
        written(folder / "keys")
    (open_to_all / "link").symlink_to(closed / "keys")
    (closed / "link").symlink_to(open_to_all / "keys")
    open_to_all.chmod(0o777)
    for folder in (open_to_all, closed):
        refused(open_provider(f"file:{folder / 'link'}", strict=True).active)


@posix
def test_a_read_only_mount_is_for_this_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path / "keys", mode=0o666)
    tmp_path.chmod(0o777)

    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
    assert open_provider(f"file:{path}", strict=True).active() == KEY


@posix
@pytest.mark.parametrize("way", ["argument", "variable", "ring"])
def test_what_is_strict_refuses_such_a_file_until_its_mode_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
):
    path = written(tmp_path / "keys", mode=0o644)
    if way == "variable":
        monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    if way == "ring":
        ring = KeyRing.from_url(f"file:{path}", strict=True)
        read, strict = ring.active_sync, ring.strict
        assert strict
    else:
        read = open_provider(f"file:{path}", strict=way == "argument").active
    assert "chmod go-rwx" in refused(read)
    path.chmod(0o600)
    assert read() == KEY


@posix
@pytest.mark.parametrize("what", ["token", "vault-token", "secret_id", "role_id", "jwt"])
def test_files_of_tokens_and_credentials_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in os.environ:
        if name.startswith(("VAULT_", "BAO_")):
            monkeypatch.delenv(name)
    path = written(tmp_path / (".vault-token" if what == "vault-token" else "credential"), "hvs.TOKEN", 0o640)
    login = {
        "token": {"auth": "token-file", "token_file": path},
        "vault-token": {"auth": "token"},
        "secret_id": {"auth": "approle", "role_id": "r", "secret_id_file": path},
        "role_id": {"auth": "approle", "secret_id": "s", "role_id_file": path},
        "jwt": {"auth": "jwt", "role": "r", "jwt_file": path},
    }[what]
    vault = ScriptedVault()
    vault.has_key(KEY)
    for method in ("approle", "jwt"):
        vault.on("POST", f"/v1/auth/{method}/login", vault.granted("TOKEN"))

    def ask() -> None:
        provider = VaultKvKeyProvider("agents/session-key", address=vault.url, **login)  # type: ignore[arg-type]
        assert provider.active().secret == KEY.secret
        provider.close()

    with pytest.warns(InsecurePermissionsWarning, match=str(path)):
        ask()
    ask()
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    refused(ask)
    path.chmod(0o600)
    ask()
    vault.close()


@posix
def test_a_keyset_may_be_read_by_others_and_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path / "keyset.json", "{}", 0o644)
    assert FileKeysetStore(path).read("default") is not None
    path.chmod(0o664)
    with pytest.warns(InsecurePermissionsWarning, match="chmod go-w"):
        FileKeysetStore(path).read("default")
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    refused(lambda: FileKeysetStore(path).read("default"))
    path.chmod(0o644)
    assert FileKeysetStore(path).read("default") is not None


@posix
def test_a_named_pipe_as_a_key_file_is_refused_at_once(tmp_path: Path):
    pipe = tmp_path / "keys"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ProviderConfigError, match="is not a file"):
        FileKeyProvider(pipe).active()
    folder = tmp_path / "folder"
    folder.mkdir()
    written(folder / "a", KEY.reveal_base64())
    os.mkfifo(folder / "b", 0o600)
    with pytest.raises(ProviderConfigError, match="is not a file"):
        FileKeyProvider(folder).active()


# What is strict.


def test_what_is_strict_takes_no_allow_insecure(monkeypatch: pytest.MonkeyPatch):
    refused(lambda: open_provider("vault-kv:secret/x?address=http://vault.example", allow_insecure=True, strict=True))
    refused(lambda: KeyRing.from_url("env:X", allow_insecure=True, strict=True))
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    refused(lambda: VaultKvKeyProvider("x", address="http://vault.example", allow_insecure=True))
    open_provider("vault-kv:secret/x?address=http://127.0.0.1:8200", strict=True)


@pytest.mark.parametrize("given", [{"url": "https://vault.example", "verify": False}, {"url": "http://vault.example"}])
def test_what_is_strict_takes_no_client_that_verifies_nothing(monkeypatch: pytest.MonkeyPatch, given):
    import hvac

    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    refused(VaultKvKeyProvider("x", client=hvac.Client(**given)).active)


def test_strict_does_not_belong_in_a_url(tmp_path: Path):
    with pytest.raises(ProviderConfigError, match="strict"):
        open_provider("vault-kv:secret/x?address=http://127.0.0.1:8200&strict=1")


def test_a_ring_says_whether_it_is_strict_and_stays_so(monkeypatch: pytest.MonkeyPatch):
    ring = KeyRing(StaticKeyProvider(KEY))
    assert ring.strict is False
    with pytest.raises(AttributeError):
        ring.strict = True  # type: ignore[misc] # what is tested
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    assert KeyRing(StaticKeyProvider(KEY)).strict is True
    assert ring.strict is False
    assert KeyRing.from_url("env:X").strict is True


def test_what_is_read_beside_is_as_strict_as_the_ring(tmp_path: Path):
    path = written(tmp_path / "keys", mode=0o644)
    other = Key.generate("b")
    first = written(tmp_path / "first", f"b={other.reveal_base64()}")
    ring = KeyRing.from_url(f"file:{first}", also_read=[f"file:{path}"], strict=True)
    assert ring.active_sync() == other
    refused(lambda: ring.get_sync(KEY.kid))
    ring.close()


@pytest.mark.parametrize("text", ["true", "yes", "2"])
def test_a_variable_that_says_neither_yes_nor_no_is_a_mistake(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", text)
    with pytest.raises(ProviderConfigError, match="neither 1 nor 0"):
        KeyRing.from_url("env:X")


# Keys.


@pytest.mark.parametrize("secret", WEAK.values(), ids=WEAK.keys())
def test_a_key_that_anybody_can_guess_is_warned_of_once_and_refused_where_it_is_strict(secret: bytes, monkeypatch):
    assert weakness_of(secret)
    weak = Key(f"weak-{os.urandom(4).hex()}", secret)
    provider = StaticKeyProvider(KEY, weak)
    with pytest.warns(WeakKeyWarning, match=weak.kid):
        assert KeyRing(provider).get_sync(weak.kid) == weak
    assert KeyRing(provider).get_sync(weak.kid) == weak
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    assert KeyRing(provider).get_sync(weak.kid) == weak
    with pytest.raises(InvalidKeyError, match="nothing is sealed with it"):
        KeyRing(StaticKeyProvider(weak)).active_sync()


def test_zeros_are_refused_as_the_active_key_and_still_open_older_rows():
    zeros = Key(f"zeros-{os.urandom(4).hex()}", bytes(32))
    with pytest.raises(InvalidKeyError, match="only zeros"):
        KeyRing(StaticKeyProvider(zeros)).active_sync()
    ring = KeyRing(StaticKeyProvider(KEY, zeros))
    with pytest.warns(WeakKeyWarning):
        assert ring.get_sync(zeros.kid) == zeros


def test_a_sentence_in_base64_warns_as_the_active_key(monkeypatch: pytest.MonkeyPatch):
    name = f"SENTENCE_{os.urandom(4).hex()}"
    text = base64.b64encode(os.urandom(16).hex().encode()).decode()
    monkeypatch.setenv(name, f"{name.lower()}={text}")
    with pytest.warns(WeakKeyWarning, match="readable text"):
        KeyRing.from_url(f"env:{name}").active_sync()


def test_random_keys_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [one for one in (os.urandom(32) for _ in range(20_000)) if weakness_of(one)] == []


def test_both_faces_have_the_same_classes():
    import encrypted_sessions

    assert encrypted_sessions.WeakKeyWarning is WeakKeyWarning
    assert encrypted_sessions.InsecurePermissionsWarning is InsecurePermissionsWarning
