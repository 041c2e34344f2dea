"""A keyset under a key of Transit, with a real server."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import hvac
import pytest
from agents import SQLiteSession
from typer.testing import CliRunner, Result

from encrypted_sessions import EncryptedSession
from encrypted_sessions.cli import application
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.documents import ROOT
from encrypted_sessions_tests.keyset_fixture import make_format_1
from encrypted_sessions_tests.openbao import PATH
from keyproviders import (
    CachePolicy,
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProvider,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
)
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetManager, WrappedKey
from keyproviders.testing import KeyProviderConformance
from keyproviders.vault import VaultTransitKeyWrapper

CONTEXT = {"keyset": "default", "key": "k1", "created_at": "2026-11-23T07:00:00Z"}


class Clock:
    """Unix seconds that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 7, tzinfo=timezone.utc).timestamp()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Operations:
    """One keyset under a key of Transit: who changes it, and who reads it."""

    def __init__(self, transit: Any, path: Path) -> None:
        self.transit = transit
        self.path = path
        self.clock = Clock()
        self.made: list[Any] = []

    def wrapper(self, key: str = "agents", **given: Any) -> VaultTransitKeyWrapper:
        connection = {"address": self.transit.server.url, "token": "root", "mount": self.transit.mount, **given}
        wrapper = VaultTransitKeyWrapper(key, **connection)
        self.made.append(wrapper)
        return wrapper

    def manager(self, key: str = "agents", **given: Any) -> KeysetManager:
        return KeysetManager(self.wrapper(key, **given), FileKeysetStore(self.path), clock=self.clock)

    def provider(self, key: str = "agents", *, revalidate_s: float = 3_600, **given: Any) -> KeysetKeyProvider:
        wrapper, store = self.wrapper(key, **given), FileKeysetStore(self.path)
        return KeysetKeyProvider(wrapper, store, clock=self.clock, revalidate_s=revalidate_s)

    def wrapped(self, name: str) -> WrappedKey:
        (found,) = (one for one in json.loads(self.path.read_text())["keys"] if one["name"] == name)
        return WrappedKey(found["kek"], found["wrapped"])

    def close(self) -> None:
        for one in self.made:
            one.close()


@pytest.fixture
def keyset(transit, tmp_path: Path) -> Iterator[Operations]:
    made = Operations(transit, tmp_path / "keyset.json")
    yield made
    made.close()


class TestKeysetUnderTransit(KeyProviderConformance):
    """The suite that every provider passes."""

    @pytest.fixture(autouse=True)
    def _a_keyset_with_two_keys(self, keyset):
        self.keyset = keyset
        keyset.manager().create(key_name="k1")
        keyset.manager().rotate(key_name="k2", now=True)

    def make_provider(self) -> KeyProvider:
        return self.keyset.provider()

    def older_name(self) -> str | None:
        return "k1"


def test_everybody_unwraps_the_same_key(keyset):
    created = keyset.manager().create(key_name="k1")
    one, other = keyset.provider().active(), keyset.provider().active()
    assert one == other
    assert one.name == "k1"
    assert len(one.secret) == 32
    assert created.kek == f"{keyset.transit.mount}/agents"
    assert keyset.wrapped("k1").ciphertext.startswith("vault:v1:")


def test_a_rotation_in_the_keyset_adds_a_key_and_keeps_the_older_one(keyset):
    manager, provider = keyset.manager(), keyset.provider()
    manager.create(key_name="k1")
    first = provider.active()
    manager.rotate(key_name="k2")
    assert provider.active() == first
    keyset.clock.advance(1_261)
    second = provider.active()
    assert second.name == "k2"
    assert second.secret != first.secret
    assert provider.get("k1") == first


def test_a_rotation_of_the_transit_key_and_a_rewrap_change_no_key(keyset):
    manager = keyset.manager()
    manager.create(key_name="k1")
    keyset.transit.rotate()
    manager.rotate(key_name="k2")
    before = {name: keyset.provider().get(name) for name in ("k1", "k2")}
    assert keyset.wrapped("k1").ciphertext.startswith("vault:v1:")
    assert keyset.wrapped("k2").ciphertext.startswith("vault:v2:")
    # Past version 9: as text, v10 would come before it.
    for version in (9, 10, 11):
        keyset.transit.rotate(version - 2 if version == 9 else 1)
        manager.rewrap()
        for name, key in before.items():
            assert keyset.wrapped(name).ciphertext.startswith(f"vault:v{version}:")
            assert keyset.provider().get(name) == key


def test_a_rewrap_with_nothing_to_do_writes_nothing(keyset):
    manager = keyset.manager()
    manager.create()
    keyset.transit.rotate(9)
    manager.rewrap()
    text = keyset.path.read_text()
    manager.rewrap()
    assert keyset.path.read_text() == text


def test_a_version_below_the_minimum_is_disabled_until_the_minimum_is_lowered(keyset):
    manager = keyset.manager()
    manager.create(key_name="k1")
    key = keyset.provider().active()
    keyset.transit.rotate(2)
    keyset.transit.write("keys/agents/config", min_decryption_version=3)
    with pytest.raises(KeyDisabledError, match=r"version 1 of .* min_decryption_version=1"):
        keyset.provider().active()
    with pytest.raises(KeyDisabledError, match="too old"):
        manager.rewrap()
    keyset.transit.write("keys/agents/config", min_decryption_version=1)
    manager.rewrap()
    keyset.transit.write("keys/agents/config", min_decryption_version=3)
    assert keyset.provider().active() == key


def test_a_version_that_was_trimmed_is_disabled_too_for_the_server_does_not_say_more(keyset):
    keyset.manager().create()
    keyset.transit.rotate()
    keyset.transit.write("keys/agents/config", min_decryption_version=2, min_encryption_version=2)
    keyset.transit.write("keys/agents/trim", min_available_version=2)
    with pytest.raises(KeyDisabledError, match="if the version still exists"):
        keyset.provider().active()


def test_a_deleted_key_is_not_found(keyset):
    manager = keyset.manager()
    manager.create()
    keyset.transit.write("keys/agents/config", deletion_allowed=True)
    keyset.transit.root.adapter.delete(f"/v1/{keyset.transit.mount}/keys/agents")
    calls: list[Callable[[], object]] = [keyset.provider().active, manager.rotate, manager.rewrap]
    for call in calls:
        with pytest.raises(KeyNotFoundError, match="encryption key not found") as caught:
            call()
        assert type(caught.value) is KeyNotFoundError


def test_a_key_that_is_deleted_and_made_again_opens_nothing(keyset):
    keyset.manager().create()
    keyset.transit.write("keys/agents/config", deletion_allowed=True)
    keyset.transit.root.adapter.delete(f"/v1/{keyset.transit.mount}/keys/agents")
    keyset.transit.make_key("agents")
    with pytest.raises(InvalidKeyError, match="deleted and created again"):
        keyset.provider().active()


def test_a_soft_deleted_key_is_disabled_until_it_is_restored(keyset):
    keyset.manager().create()
    key = keyset.provider().active()
    path = f"/v1/{keyset.transit.mount}/keys/agents/soft-delete"
    try:
        keyset.transit.root.adapter.delete(path)
    except hvac.exceptions.VaultError:
        pytest.skip("this server knows no soft deletion (OpenBao does)")
    with pytest.raises(KeyDisabledError, match="soft-delete-restore"):
        keyset.provider().active()
    keyset.transit.write("keys/agents/soft-delete-restore")
    assert keyset.provider().active() == key


@pytest.mark.parametrize("kind", ["aes256-gcm96", "rsa-2048"])
def test_a_key_that_is_not_derived_is_refused_before_anything_is_written(keyset, kind: str):
    keyset.transit.make_key("plain", derived=False, type=kind)
    with pytest.raises(ProviderConfigError, match="derived=true"):
        keyset.manager("plain").create()
    assert not keyset.path.exists()
    # Without this, every context would open what it wraps.
    ciphertext = keyset.transit.write("datakey/plaintext/plain", context="AAAA")["data"]["ciphertext"]
    wrapped = WrappedKey(f"{keyset.transit.mount}/plain", ciphertext)
    assert len(keyset.wrapper("plain").unwrap(wrapped, CONTEXT)) == 32
    # And nothing is moved to it.
    keyset.manager().create()
    with pytest.raises(ProviderConfigError, match="derived=true"):
        keyset.manager("plain").rewrap()


def test_a_key_that_cannot_encrypt_is_refused_in_the_servers_words(keyset):
    keyset.transit.make_key("signer", type="ed25519")
    with pytest.raises(ProviderConfigError, match="not supported for key type ed25519"):
        keyset.manager("signer").create()


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "aes128-gcm96"},
        {"type": "chacha20-poly1305"},
        {"type": "xchacha20-poly1305"},
        {"convergent_encryption": True},
    ],
)
def test_any_derived_key_that_encrypts_will_do(keyset, settings: dict[str, Any]):
    keyset.transit.make_key("other", **settings)
    keyset.manager("other").create(key_name="k1")
    key = keyset.provider("other").active()
    keyset.transit.rotate(name="other")
    keyset.manager("other").rewrap()
    assert keyset.provider("other").active() == key
    wrapped, context = keyset.wrapped("k1"), {**CONTEXT, "key": "k2"}
    with pytest.raises(InvalidKeyError, match="message authentication failed"):
        keyset.wrapper("other").unwrap(wrapped, context)


def test_the_key_itself_does_not_leave_the_server(keyset):
    keyset.manager().create()
    with pytest.raises(hvac.exceptions.InvalidRequest, match="not exportable"):
        keyset.transit.root.adapter.get(f"/v1/{keyset.transit.mount}/export/encryption-key/agents")


@pytest.mark.parametrize(
    "other", [{"keyset": "other"}, {"key": "k2"}, {"created_at": "2026-11-23T07:00:01Z"}, {"tenant": "8"}]
)
def test_a_wrapped_key_opens_under_its_own_context_alone(keyset, other: dict[str, str]):
    wrapper = keyset.wrapper(context={"tenant": "7"})
    secret, wrapped = wrapper.generate(CONTEXT)
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    tenant = other.get("tenant")
    elsewhere = keyset.wrapper(context={"tenant": tenant}) if tenant else wrapper
    context = CONTEXT if tenant else {**CONTEXT, **other}
    for call in (elsewhere.unwrap, elsewhere.rewrap):
        with pytest.raises(InvalidKeyError, match="another keyset or name"):
            call(wrapped, context)
    with pytest.raises(InvalidKeyError):
        keyset.wrapper().unwrap(wrapped, CONTEXT)


def test_a_key_that_is_copied_under_another_name_does_not_open(keyset):
    manager = keyset.manager()
    manager.create(key_name="k1")
    manager.rotate(key_name="k2")
    document = json.loads(keyset.path.read_text())
    document["keys"][1]["wrapped"] = document["keys"][0]["wrapped"]
    keyset.path.write_text(json.dumps(document))
    provider = keyset.provider()
    assert provider.active().name == "k1"
    with pytest.raises(InvalidKeyError, match="'k2'"):
        provider.get("k2")


@pytest.mark.parametrize("change", ["vault:v1:", "vault:v2:"])
def test_damaged_bytes_are_an_invalid_key(keyset, change: str):
    keyset.manager().create(key_name="k1")
    body = keyset.wrapped("k1").ciphertext.removeprefix("vault:v1:")
    raw = bytearray(base64.b64decode(body))
    raw[20] ^= 1
    damaged = body if change == "vault:v2:" else base64.b64encode(raw).decode()
    document = json.loads(keyset.path.read_text())
    document["keys"][0]["wrapped"] = change + damaged
    keyset.path.write_text(json.dumps(document))
    with pytest.raises(InvalidKeyError):
        keyset.provider().active()


# Moving to another key.


def test_a_keyset_moves_to_another_key_under_those_who_read_it(keyset):
    keyset.manager().create(key_name="k1")
    key = keyset.provider().active()
    old = f"{keyset.transit.mount}/agents"
    keyset.transit.make_key("newer")
    with pytest.raises(ProviderConfigError, match=f"also_kek={old}"):
        keyset.provider("newer").active()
    assert keyset.provider("newer", also_kek=old).active() == key
    new = f"{keyset.transit.mount}/newer"
    reader = keyset.provider(also_kek=new)
    assert reader.active() == key
    keyset.manager("newer").rewrap()
    assert keyset.wrapped("k1").kek == new
    assert reader.active() == key
    assert keyset.provider("newer").active() == key
    with pytest.raises(ProviderConfigError, match=f"may only use {old}"):
        keyset.provider().active()


def test_a_move_needs_one_line_on_the_old_key_and_two_on_the_new_one(keyset):
    keyset.manager().create()
    text = keyset.path.read_text()
    keyset.transit.make_key("newer")
    rule = keyset.transit.rule
    needed = [rule("decrypt"), rule("datakey/plaintext", "newer"), rule("encrypt", "newer")]
    for missing in needed:
        token = keyset.transit.token(*(one for one in needed if one is not missing))
        with pytest.raises(KeyAccessDeniedError) as caught:
            keyset.manager("newer", token=token).rewrap()
        assert missing in str(caught.value)
        assert keyset.path.read_text() == text
    keyset.manager("newer", token=keyset.transit.token(*needed)).rewrap()
    assert keyset.wrapped(keyset.manager().list().keys[0].name).kek == f"{keyset.transit.mount}/newer"


def test_an_upgrade_binds_every_key_to_the_id_and_changes_none(keyset):
    store = FileKeysetStore(keyset.path)
    secrets = make_format_1(keyset.wrapper(), store, "k1", "k2", now=int(keyset.clock()))
    reader = keyset.provider()
    assert reader.active().secret == secrets["k2"]
    done = keyset.manager().upgrade()
    assert {name: reader.get(name).secret for name in secrets} == secrets
    strict = KeysetKeyProvider(keyset.wrapper(), store, keyset_id=done.id, clock=keyset.clock)
    assert {name: strict.get(name).secret for name in secrets} == secrets
    # As 0.1.0 bound it, a key does not open any more; and not under another id.
    context = {**CONTEXT, "created_at": f"{done.keys[0].created_at:%Y-%m-%dT%H:%M:%SZ}"}
    for other in (context, {**context, "keyset_id": "0" * 32}):
        with pytest.raises(InvalidKeyError, match="message authentication failed"):
            keyset.wrapper().unwrap(keyset.wrapped("k1"), other)


def test_an_upgrade_needs_decrypt_and_encrypt_and_no_other_change_does(keyset):
    make_format_1(keyset.wrapper(), FileKeysetStore(keyset.path), "k1", now=int(keyset.clock()))
    text = keyset.path.read_text()
    rule = keyset.transit.rule
    needed = [rule("decrypt"), rule("datakey/plaintext"), rule("encrypt")]
    for missing in needed:
        token = keyset.transit.token(*(one for one in needed if one is not missing))
        with pytest.raises(KeyAccessDeniedError) as caught:
            keyset.manager(token=token).upgrade()
        assert missing in str(caught.value)
        assert keyset.path.read_text() == text
    keyset.manager(token=keyset.transit.token(*needed)).upgrade()
    operator = keyset.manager(token=keyset.transit.token(rule("datakey/plaintext"), rule("rewrap")))
    operator.rotate(key_name="k2", now=True)
    keyset.transit.rotate()
    operator.rewrap()
    assert keyset.provider().get("k1").name == "k1"


def test_a_move_to_a_key_that_is_not_there_makes_none(keyset):
    keyset.manager().create()
    with pytest.raises(KeyNotFoundError):
        keyset.manager("mistyped").rewrap()
    names = keyset.transit.root.adapter.list(f"/v1/{keyset.transit.mount}/keys")["data"]["keys"]
    assert names == ["agents"]


def test_two_servers_with_the_same_key_open_each_others_keysets(keyset, logged_transit):
    here, there = keyset.transit, logged_transit
    there.root.sys.enable_secrets_engine("transit", path=here.mount)
    material = base64.b64encode(os.urandom(32)).decode()
    path = f"{here.mount}/keys/shared"
    for server in (here.server, there.server):
        command = [server.program, "transit", "import", path, material, "type=aes256-gcm96", "derived=true"]
        names = {"ADDR": server.url, "TOKEN": server.root_token}
        environment = {f"{brand}_{name}": value for name, value in names.items() for brand in ("BAO", "VAULT")}
        subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    keyset.manager("shared").create()
    assert keyset.provider("shared").active() == keyset.provider("shared", address=there.server.url).active()


# Who may do what.


def test_a_service_needs_one_line_and_can_do_nothing_else(keyset):
    keyset.manager().create(key_name="k1")
    keyset.manager().rotate(key_name="k2")
    rule = keyset.transit.rule("decrypt")
    service = {"token": keyset.transit.token(rule)}
    provider = keyset.provider(**service)
    assert provider.active().name == "k1"
    assert provider.get("k2").name == "k2"
    with pytest.raises(KeyAccessDeniedError) as caught:
        keyset.provider(token=keyset.transit.token()).active()
    assert rule in str(caught.value)
    text = keyset.path.read_text()
    for operation, call in (
        ("datakey/plaintext", keyset.manager(**service).rotate),
        ("rewrap", keyset.manager(**service).rewrap),
    ):
        keyset.clock.advance(2_000)
        with pytest.raises(KeyAccessDeniedError) as caught:
            call()
        assert keyset.transit.rule(operation) in str(caught.value)
    assert keyset.path.read_text() == text


def test_an_operator_needs_two_lines_and_opens_no_key(keyset):
    datakey, rewrap = keyset.transit.rule("datakey/plaintext"), keyset.transit.rule("rewrap")
    operator = {"token": keyset.transit.token(datakey, rewrap)}
    manager = keyset.manager(**operator)
    manager.create(key_name="k1")
    manager.rotate(key_name="k2", now=True)
    keyset.transit.rotate()
    manager.rewrap()
    keyset.clock.advance(2_000)
    manager.retire("k1")
    manager.restore("k1")
    manager.retire("k1")
    manager.destroy("k1", now=True)
    assert [one.state for one in manager.list().keys] == ["destroyed", "active"]
    with pytest.raises(KeyAccessDeniedError):
        keyset.provider(**operator).active()
    without_rewrap = keyset.manager(token=keyset.transit.token(datakey))
    without_rewrap.rotate(key_name="k3")
    with pytest.raises(KeyAccessDeniedError) as caught:
        without_rewrap.rewrap()
    assert rewrap in str(caught.value)
    without_datakey = keyset.manager(token=keyset.transit.token(rewrap))
    without_datakey.rewrap()
    keyset.clock.advance(2_000)
    with pytest.raises(KeyAccessDeniedError) as caught:
        without_datakey.rotate()
    assert datakey in str(caught.value)


class Commands:
    """`encrypted-sessions keys ...` and services, both with a URL and a token in the environment."""

    def __init__(self, transit: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.transit = transit
        self.url = f"vault-transit:agents?mount={transit.mount}&keyset=file:{path}"
        self.environment = monkeypatch
        monkeypatch.setenv("VAULT_ADDR", transit.server.url)

    def run(self, *words: str, rules: Sequence[str] = ()) -> Result:
        """One command, with a token that has exactly these lines of policy."""
        self.environment.setenv("VAULT_TOKEN", self.transit.token(*rules))
        command, *rest = words
        return CliRunner().invoke(application(), ["keys", command, self.url, *rest])

    def denied(self, *words: str, rules: Sequence[str], lacks: str) -> bool:
        done = self.run(*words, rules=rules)
        return done.exit_code == 4 and lacks in done.stderr and "Traceback" not in done.output

    def states(self) -> dict[str, str]:
        done = self.run("list", "--json")
        assert done.exit_code == 0
        return {one["name"]: one["state"] for one in json.loads(done.stdout)["keys"]}


@pytest.fixture
def commands(transit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(transit, tmp_path / "keyset.json", monkeypatch)


def test_each_command_works_with_its_own_lines_of_policy_and_not_with_one_less(commands):
    datakey, rewrap = commands.transit.rule("datakey/plaintext"), commands.transit.rule("rewrap")
    create = ("create", "--key-name", "k1", "--activation-delay", "1")
    assert commands.denied(*create, rules=[rewrap], lacks=datakey)
    assert commands.run(*create, rules=[datakey]).exit_code == 0
    rotate = ("rotate", "--now", "--key-name", "k2")
    assert commands.denied(*rotate, rules=[rewrap], lacks=datakey)
    assert commands.states() == {"k1": "active"}
    assert commands.run(*rotate, rules=[datakey]).exit_code == 0
    commands.transit.rotate()
    assert commands.denied("rewrap", rules=[datakey], lacks=rewrap)
    assert commands.run("rewrap", rules=[rewrap]).exit_code == 0
    # The others ask the server for nothing.
    deadline = time.monotonic() + 30
    while commands.run("retire", "k1").exit_code != 0:
        assert time.monotonic() < deadline, "k1 was never allowed to be retired"
        time.sleep(0.1)
    assert commands.run("restore", "k1").exit_code == 0
    assert commands.run("retire", "k1").exit_code == 0
    assert commands.run("destroy", "k1", "--now", "k1", "--yes").exit_code == 0
    assert commands.states() == {"k1": "destroyed", "k2": "active"}


def test_a_move_by_command_needs_its_three_lines(commands):
    assert commands.run("create", rules=[commands.transit.rule("datakey/plaintext")]).exit_code == 0
    commands.transit.make_key("newer")
    commands.url = commands.url.replace("vault-transit:agents", "vault-transit:newer")
    rule = commands.transit.rule
    needed = [rule("decrypt"), rule("datakey/plaintext", "newer"), rule("encrypt", "newer")]
    for missing in needed:
        assert commands.denied("rewrap", rules=[one for one in needed if one is not missing], lacks=missing)
    assert commands.run("rewrap", rules=needed).exit_code == 0


def test_a_service_with_a_url_works_with_its_one_line_and_not_without(commands):
    created = commands.run("create", "--key-name", "k1", rules=[commands.transit.rule("datakey/plaintext")])
    assert created.exit_code == 0
    decrypt = commands.transit.rule("decrypt")
    commands.environment.setenv("VAULT_TOKEN", commands.transit.token(decrypt))
    ring = KeyRing.from_url(commands.url)
    assert ring.active_sync().name == "k1"
    assert ring.get_sync(ring.active_sync().kid) == ring.active_sync()
    ring.close()
    commands.environment.setenv("VAULT_TOKEN", commands.transit.token())
    denied = KeyRing.from_url(commands.url)
    with pytest.raises(KeyAccessDeniedError) as caught:
        denied.active_sync()
    assert decrypt in str(caught.value)
    denied.close()


def test_a_policy_may_demand_the_context(keyset):
    rule = keyset.transit.rule("datakey/plaintext").replace("}", 'required_parameters = ["context", "bits"] }')
    keyset.manager(token=keyset.transit.token(rule)).create()
    decrypt = keyset.transit.rule("decrypt").replace("}", 'required_parameters = ["context", "ciphertext"] }')
    assert keyset.provider(token=keyset.transit.token(decrypt)).active()


def test_a_service_that_logs_in_by_itself_goes_on_after_its_token_is_revoked(keyset):
    keyset.manager().create()
    root, mount = keyset.transit.root, f"approle-{keyset.transit.mount}"
    root.sys.create_or_update_policy(mount, keyset.transit.rule("decrypt"))
    root.sys.enable_auth_method("approle", path=mount)
    root.auth.approle.create_or_update_approle("agents", token_policies=[mount], mount_point=mount)
    role_id = root.auth.approle.read_role_id("agents", mount_point=mount)["data"]["role_id"]
    secret_id = root.auth.approle.generate_secret_id("agents", mount_point=mount)["data"]["secret_id"]
    given = {"token": None, "auth": "approle", "auth_mount": mount, "role_id": role_id, "secret_id": secret_id}
    provider = keyset.provider(revalidate_s=60, **given)
    key = provider.active()
    root.auth.token.revoke(keyset.made[-1]._connection._tokens._token.value)
    keyset.clock.advance(61)
    assert provider.active() == key


# What a running service sees.


def test_a_key_is_unwrapped_once_and_again_when_its_copy_is_old(keyset):
    keyset.manager().create(key_name="k1")
    provider = keyset.provider(revalidate_s=3_600)
    key = provider.active()
    keyset.transit.rotate()
    keyset.transit.write("keys/agents/config", min_decryption_version=2)
    keyset.clock.advance(3_599)
    assert provider.active() == key
    keyset.clock.advance(2)
    with pytest.raises(KeyDisabledError):
        provider.active()


#: Old answers are asked for anew at once, and go on counting for the length of a test.
CACHE = CachePolicy(fresh_s=0.2, stale_write_s=300, stale_read_s=600, miss_memory_s=0.2)
RETRY = RetryPolicy(attempts=2, deadline_s=5, wait_min_s=0.01, wait_max_s=0.02)


@contextmanager
def sealed(transit: Any) -> Iterator[None]:
    transit.root.sys.seal()
    yield
    transit.server.unseal()


async def test_a_sealed_server_stops_nobody_who_has_the_keys_and_nobody_else_starts(stored_transit, tmp_path: Path):
    keyset = Operations(stored_transit, tmp_path / "keyset.json")
    server = stored_transit.server
    tls = {"ca_cert": str(server.certificate), "token": server.root_token}
    keyset.clock.now = datetime.now(timezone.utc).timestamp()
    keyset.manager(**tls).create(key_name="k1")
    store = SQLiteSession("user-123", tmp_path / "agents.db")
    async with KeyRing(keyset.provider(**tls), cache=CACHE, retry=RETRY) as ring:
        session = EncryptedSession.wrap(store, ring, ttl=3_600)
        await session.add_items([{"role": "user", "content": "before"}])
        with sealed(stored_transit):
            await ring.refresh()
            await session.add_items([{"role": "user", "content": "meanwhile"}])
            assert [one["content"] for one in await session.get_items()] == ["before", "meanwhile"]
            with pytest.raises(KeyUnavailableError, match="sealed"):
                keyset.provider(**tls).active()
            with pytest.raises(KeyUnavailableError, match="sealed"):
                keyset.manager(**tls).rotate()
        assert keyset.provider(**tls).active() == await ring.active()
    store.close()
    keyset.close()


async def test_items_of_before_open_after_every_kind_of_rotation(keyset, tmp_path: Path):
    keyset.clock.now = datetime.now(timezone.utc).timestamp()  # what is sealed has the time of this machine
    manager = keyset.manager()
    manager.create(key_name="k1")
    store = SQLiteSession("user-123", tmp_path / "agents.db")

    async def add(text: str) -> list[str]:
        token = keyset.transit.token(keyset.transit.rule("decrypt"))
        async with KeyRing(keyset.provider(token=token)) as ring:
            session = EncryptedSession.wrap(store, ring, ttl=3_600)
            await session.add_items([{"role": "user", "content": text}])
            return [one["content"] for one in await session.get_items()]

    assert await add("1") == ["1"]
    manager.rotate(key_name="k2", now=True)
    assert await add("2") == ["1", "2"]
    keyset.transit.rotate(10)
    assert await add("3") == ["1", "2", "3"]
    manager.rewrap()
    keyset.transit.write("keys/agents/config", min_decryption_version=11)
    assert await add("4") == ["1", "2", "3", "4"]
    kids = [row["kid"].partition("~")[0] for row in await store.get_items()]
    assert kids == ["k1", "k2", "k2", "k2"]
    store.close()


# What the audit device shows.


def test_the_audit_device_shows_who_unwrapped_which_key_and_no_key(logged_transit, tmp_path: Path):
    keyset = Operations(logged_transit, tmp_path / "keyset.json")
    keyset.manager().create(key_name="k1")
    token = logged_transit.token(logged_transit.rule("decrypt"), display_name="agents-pod-7")
    key = keyset.provider(token=token).active()
    wanted = f"{logged_transit.mount}/decrypt/agents"
    lines = [one for one in logged_transit.server.audited() if one["request"]["path"] == wanted]
    assert [one["type"] for one in lines] == ["request", "response"]
    assert {one["auth"]["display_name"] for one in lines} == {"token-agents-pod-7"}
    assert {one["request"]["remote_address"] for one in lines} == {"127.0.0.1"}
    document = json.loads(keyset.path.read_text())
    names = {
        "created_at": document["keys"][0]["created_at"],
        "key": "k1",
        "keyset": "default",
        "keyset_id": document["id"],
    }
    bound = json.dumps(names, sort_keys=True, separators=(",", ":"))
    context = base64.b64encode(bound.encode()).decode()
    shown = logged_transit.root.sys.calculate_hash("to-file", context)["data"]["hash"]
    assert lines[0]["request"]["data"]["context"] == shown
    text = logged_transit.server.audit_log.read_text()
    for secret in (base64.b64encode(key.secret).decode(), key.reveal_base64(), token, keyset.wrapped("k1").ciphertext):
        assert secret not in text
    # A mount may show its contexts in the clear.
    logged_transit.root.sys.tune_mount_configuration(logged_transit.mount, audit_non_hmac_request_keys=["context"])
    keyset.provider(token=token).active()
    last = [one for one in logged_transit.server.audited() if one["request"]["path"] == wanted][-1]
    assert base64.b64decode(last["request"]["data"]["context"]).decode() == bound
    keyset.close()


def test_a_new_key_leaves_a_refusal_in_the_audit_device(logged_transit, tmp_path: Path):
    keyset = Operations(logged_transit, tmp_path / "keyset.json")
    keyset.manager().create()
    wanted = f"{logged_transit.mount}/datakey/plaintext/agents"
    answers = [one for one in logged_transit.server.audited() if one["request"]["path"] == wanted]
    errors = [one.get("error", "") for one in answers if one["type"] == "response"]
    assert len(errors) == 2
    assert errors[1] == ""
    keyset.close()


def test_a_wrong_mount_and_a_wrong_namespace_are_named(keyset):
    with pytest.raises(ProviderConfigError, match="no Transit at the mount 'secret'"):
        keyset.manager(mount="secret").create()
    with pytest.raises(ProviderConfigError, match="no Transit at the mount 'nowhere'"):
        keyset.manager(mount="nowhere").create()
    with pytest.raises((ProviderConfigError, KeyAccessDeniedError)):
        keyset.manager(namespace="nope").create()


def test_four_threads_at_once(keyset):
    wrapper = keyset.wrapper()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda at: wrapper.generate({**CONTEXT, "key": f"k{at}"}), range(16)))
        opened = list(pool.map(lambda at: wrapper.unwrap(made[at][1], {**CONTEXT, "key": f"k{at}"}), range(16)))
    assert opened == [secret for secret, _ in made]
    assert len(set(opened)) == 16


# The page: what it shows is run as it stands.

PAGE = ROOT / "docs" / "vault-transit.md"


def shown(language: str) -> list[tuple[str, str]]:
    """The blocks of a language, also those within lists, each with the line of text before it."""
    found = re.findall(rf"(\S[^\n]*)\n\n( *)```{language}\n(.*?)^\2```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [(before, textwrap.dedent(text)) for before, _, text in found]


def test_the_steps_of_the_page_work_as_they_are_shown(logged_transit, tmp_path: Path):
    server = logged_transit.server
    missing = [name for name in ("bao", "bash", "jq", "openssl", "shred") if shutil.which(name, path=PATH) is None]
    if missing:
        pytest.skip(f"the page's commands need {', '.join(missing)}")
    for before, text in shown("hcl"):
        if name := re.fullmatch(r".*`(\w+\.hcl)`:", before):
            (tmp_path / name[1]).write_text(text)
    steps = [text for _, text in shown("sh") if not text.startswith(("pip ", "bao server "))]
    script = "\n".join(["set -eux -o pipefail", *steps, "set +x", "echo KEYSET; cat keyset.json"])
    script = script.replace("http://127.0.0.1:8200", server.url)
    script = script.replace("/var/log/openbao/audit.log", str(server.audit_log))
    command = tmp_path / "bin" / "encrypted-sessions"
    command.parent.mkdir()
    command.write_text(warm_programs.script())
    command.chmod(0o700)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": os.pathsep.join((str(command.parent), PATH))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    said, _, document = done.stdout.partition("KEYSET\n")
    keys = json.loads(document)["keys"]
    assert [one["name"] for one in keys] == ["2026-11", "2027-05"]
    assert {one["kek"] for one in keys} == {"transit/agents-2"}
    assert not (tmp_path / "transit.key").exists()
    logged = [line.split("\t") for line in said.splitlines() if "\tagents\t127.0.0.1\t" in line]
    context = logged[-1][-1]
    assert json.loads(base64.b64decode(context)).items() >= {"keyset": "default", "key": "2026-11"}.items()


def test_the_policies_of_the_page_are_the_ones_that_are_tried_here(transit):
    policies = {before: text for before, text in shown("hcl") if before.endswith(".hcl`:")}
    service, operator, _, upgrade, move = policies.values()

    def here(text: str) -> set[str]:
        return set(text.strip().replace("transit/", f"{transit.mount}/").splitlines())

    assert here(service) == {transit.rule("decrypt")}
    assert here(operator) == {transit.rule("datakey/plaintext"), transit.rule("rewrap")}
    new = {transit.rule("datakey/plaintext", "agents-2"), transit.rule("encrypt", "agents-2")}
    assert here(upgrade) == {transit.rule("decrypt"), transit.rule("datakey/plaintext"), transit.rule("encrypt")}
    assert here(move) == {transit.rule("decrypt"), *new}
