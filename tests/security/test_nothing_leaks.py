"""A sentinel key and a sentinel text go through everything that is public, and never come out.

One case or more for each public name: whoever adds a name adds what may go wrong with it here.
`leaks.Net` sees every log record, warning, error with its chain and the local variables of our
frames, repr, str, copy, pickle, and what is written to stdout and stderr.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import inspect
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from agents import SQLiteSession
from pydantic import BaseModel, field_serializer

import encrypted_sessions
import encrypted_sessions.audit
import keyproviders
import keyproviders.local
from encrypted_sessions import (
    EncryptedSession,
    EncryptedSessionError,
    Finding,
    InsecurePermissionsWarning,
    InvalidKeyError,
    ItemCount,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotAskedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyRing,
    KeyRings,
    KeyUnavailableError,
    LongSessionIdWarning,
    ProviderConfigError,
    PurgeRefusedError,
    StoreConfigError,
    StoreError,
    StoreTimeoutError,
    StoreUnavailableError,
    UnreadableItemsError,
    WeakKeyWarning,
    audit_context,
    maintenance,
    observe,
)
from encrypted_sessions.audit import AuditFailedError, AuditLog
from encrypted_sessions.core.envelope import pack
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions.stores.whole import WholeStore
from encrypted_sessions_tests.aws_servers import REGION, client_of, moto_server
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.keyset_fixture import make_format_1
from encrypted_sessions_tests.leaks import Net, Sentinel, base64_cores
from encrypted_sessions_tests.scripted_vault import Reply, ScriptedVault
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import (
    CachePolicy,
    KeyEvent,
    KeyProvider,
    RetryPolicy,
    RingHealth,
    decode_key_text,
    is_strict,
    known_schemes,
    looks_like_provider_url,
    open_keyset,
    open_provider,
    parse_kid,
    redact_frames,
    weakness_of,
)
from keyproviders.aws import AwsKmsKeyWrapper
from keyproviders.keyset import FileKeysetStore, KeysetManager
from keyproviders.local import EnvKeyProvider, FileKeyProvider, StaticKeyProvider

Case = Callable[[Net, Path], Awaitable[None] | None]

CASES: list[Case] = []
COVERED: set[str] = set()

#: What hands out a secret on purpose, and says so by its name.
REVEALING = {"Key.secret", "Key.reveal_base64"}


def case(*names: str) -> Callable[[Case], Case]:
    """Register a case for these public names."""

    def register(run: Case) -> Case:
        CASES.append(run)
        COVERED.update(names)
        return run

    return register


# -- Stores, providers and a session, each of which can be made to fail ---------------------------


class FailingStore(PlainSession):
    """A plain session whose methods can be made to raise, or to wait for ever."""

    def __init__(self) -> None:
        super().__init__("session", [])
        self.broken: set[str] = set()
        self.hanging: set[str] = set()
        self.hangs = asyncio.Event()
        self.released = asyncio.Event()
        self.calls: list[str] = []

    async def _enter(self, method: str) -> None:
        self.calls.append(method)
        if method in self.hanging:
            self.hangs.set()
            await self.released.wait()
        if method in self.broken:
            raise OSError("the disk is full")

    async def get_items(self, limit: int | None = None) -> Any:
        await self._enter("get_items")
        return await super().get_items(limit)

    async def add_items(self, items: Any) -> None:
        await self._enter("add_items")
        await super().add_items(items)

    async def pop_item(self) -> Any:
        await self._enter("pop_item")
        return await super().pop_item()

    async def clear_session(self) -> None:
        await self._enter("clear_session")
        await super().clear_session()


class FailingKeys:
    """A provider that raises what it is told, or waits until it is released."""

    place = "failing keys"

    def __init__(self, key: Key, failure: Exception | None = None) -> None:
        self.key = key
        self.failure = failure
        self.gate = threading.Event()
        self.gate.set()

    def active(self) -> Key:
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.key

    def get(self, name: str) -> Key:
        return self.active()


ONCE = RetryPolicy(attempts=1)


def failing_ring(key: Key, failure: Exception | None = None) -> KeyRing:
    return KeyRing(FailingKeys(key, failure), retry=ONCE)


def rejections(net: Net) -> list[tuple[str, Any]]:
    """Items that are no JSON, each with the sentinel text in another place."""
    text = net.text.text

    class Shows:
        def __repr__(self) -> str:
            return text

        __str__ = __repr__

    class Fails(BaseModel):
        content: str

        @field_serializer("content")
        def refuse(self, content: str) -> str:
            raise ValueError(f"cannot write {content}")

    class Loose(BaseModel):
        content: object

    class Counted(BaseModel):
        role: str
        content: int

    deep: Any = {"content": text}
    for _ in range(600):
        deep = {"deeper": deep}
    circle: dict[str, Any] = {"content": text}
    circle["self"] = circle
    beside: list[Any] = [text, {"content": text}]
    return [
        ("an object", {"content": Shows()}),
        ("an object at depth", {"a": [{"b": [*beside, {"c": Shows()}]}]}),
        ("bytes", {"content": net.text.bytes}),
        ("a key that is an object", {"a": {Shows(): 1}}),
        ("a key that is bytes", {"a": {net.text.bytes: 1}}),
        ("a key that is a tuple", {(text, text): 1}),
        ("a set", {"content": {text}}),
        ("not a number", {"content": text, "score": float("nan")}),
        ("an integer too long to write", {"content": text, "n": 10**5000}),
        ("an integer one digit too long", {"content": text, "n": 10**4300}),
        ("too deep", deep),
        ("itself", circle),
        ("half a surrogate pair next to the other", {"content": text + "\ud83d" + "\ude00"}),
        ("a string", text),
        ("nothing", None),
        ("a list", [text]),
        ("a model whose serializer fails", Fails(content=text)),
        ("a model that holds an object", Loose(content=Shows())),
        ("a model that holds bytes", Loose(content=b"\xff" + net.text.bytes)),
        ("a class of models", Loose),
        ("a date", {"content": text, "at": datetime.now(timezone.utc)}),
    ]


# -- Keys -----------------------------------------------------------------------------------------


@case("Key", "Key.name", "Key.created_at", "Key.written_until", "Key.fingerprint", "Key.kid")
def a_key(net: Net, folder: Path) -> None:
    for name in ("sentinel", None):
        key = net.master(name)
        net.see(key)
        net.see([key])
        net.see({"key": key})
        times = f"{key.created_at} {key.written_until}"
        net.add("public parts", f"{key.name} {times} {key.fingerprint} {key.kid} {hash(key)}")
        for attribute in ("secret", "_secret", "name", "other"):
            with net.raises(AttributeError):
                setattr(key, attribute, net.secret)
            with net.raises(AttributeError):
                delattr(key, attribute)
        assert key == net.master(name)
        assert key != net.secret


@case("Key", "Key.generate")
def wrong_material_for_a_key(net: Net, folder: Path) -> None:
    for secret in (net.secret[:-1], net.secret * 2, net.secret + b"\n"):
        with net.raises(InvalidKeyError):
            Key("name", secret)
    for secret in (net.key.text, bytearray(net.secret), list(net.secret), net.key_text):
        with net.raises(TypeError):
            Key("name", secret)  # type: ignore[arg-type]  # what is tested
    for name in (net.key_text, net.key.text + "!"):
        with net.raises(ValueError):
            Key(name + "=", net.secret)
        with net.raises(ValueError):
            Key.generate(name + "=")
    with net.raises(TypeError):
        Key(net.secret, net.secret)  # type: ignore[arg-type]  # what is tested
    with net.raises(TypeError):
        Key.generate(net.secret)  # type: ignore[arg-type]  # what is tested
    with net.raises(ValueError):
        Key("name", net.secret, datetime(2026, 1, 1))  # noqa: DTZ001 - what is tested
    with net.raises(TypeError):
        Key("name", net.secret, net.key_text)  # type: ignore[arg-type]  # what is tested


def damaged(text: str) -> list[str]:
    """Ways in which a key goes wrong on its way through a settings file."""
    return [
        text[:-1] + "==",
        text[:-2],
        text + text,
        text[:20] + " " + text[20:],
        text[:20] + "\n" + text[20:],
        "*" + text,
        text + "é",
        text[:-1] + "\ud800",
        text.replace("=", "") + "A",
        "-_+/" + text[4:],
        f"'{text}'",
        f"key:{text}",
    ]


@case("decode_key_text", "is_strict", "weakness_of", "parse_kid", "looks_like_provider_url", "known_schemes")
def key_text(net: Net, folder: Path) -> None:
    for text in damaged(net.key_text):
        with net.raises(InvalidKeyError):
            decode_key_text(text)
        net.add("parsed", repr(parse_kid(text)))
    with net.raises(TypeError):
        decode_key_text(net.secret)  # type: ignore[arg-type]  # what is tested
    net.add("weakness", str(weakness_of(net.secret)))
    assert is_strict() is False
    with net.raises(TypeError):
        weakness_of(net.key_text)  # type: ignore[arg-type]  # what is tested
    assert not looks_like_provider_url(net.key_text)
    net.see(known_schemes())


@case("StaticKeyProvider", "StaticKeyProvider.active", "StaticKeyProvider.get", "StaticKeyProvider.names")
def keys_given_in_code(net: Net, folder: Path) -> None:
    provider = StaticKeyProvider(net.master(), Key.generate("older"))
    net.see(provider)
    net.see(provider.active())
    for name in ("no-such-name", "00000000", "no name"):
        with net.raises(KeyNotFoundError):
            provider.get(name)
    for text in damaged(net.key_text):
        with net.raises(InvalidKeyError):
            StaticKeyProvider(text)
        with net.raises(InvalidKeyError):
            StaticKeyProvider(Key.generate(), net.key_text, text)
    with net.raises(InvalidKeyError):
        StaticKeyProvider(net.key_text, net.key_text)
    both = StaticKeyProvider(net.key_text, net.master())
    net.see(both)
    net.see(both.names())
    with net.raises(InvalidKeyError):
        StaticKeyProvider(net.master(), Key("sentinel", bytes(32)))
    for wrong in (net.secret, [net.key_text], {"key": net.key_text}):
        with net.raises(TypeError):
            StaticKeyProvider(wrong)  # type: ignore[arg-type]  # what is tested


@case(
    "FileKeyProvider",
    "FileKeyProvider.active",
    "FileKeyProvider.get",
    "FileKeyProvider.names",
    "FileKeyProvider.from_url",
)
def keys_in_files(net: Net, folder: Path) -> None:
    good = net.key_text
    path = folder / "keys"
    path.touch(mode=0o600)
    provider = FileKeyProvider(path)
    path.write_text(f"# ours\nnew={good}\n")
    net.see(provider)
    net.see(provider.active())
    net.see(provider.names())
    with net.raises(KeyNotFoundError):
        provider.get("no-such-name")
    bad = [text for text in damaged(good) if "\ud800" not in text]
    bad += [f"name={text}" for text in bad] + [f"{good}={good}", f"{good},,{good}", f"a={good}\nb", f"na me={good}"]
    for text in bad:
        path.write_text(text)
        with net.raises(InvalidKeyError):
            provider.active()
        with net.raises(InvalidKeyError):
            provider.get("new")
    mounted = folder / "mounted"
    mounted.mkdir(mode=0o700)
    (mounted / "a").touch(mode=0o600)
    (mounted / "ACTIVE").touch(mode=0o600)
    for text in bad:
        (mounted / "a").write_text(text)
        with net.raises(InvalidKeyError):
            FileKeyProvider(mounted).active()
    (mounted / "a").write_text(good)
    (mounted / "ACTIVE").write_text(good)
    with net.raises(InvalidKeyError):
        FileKeyProvider(mounted).active()
    for wrong in (good, good.rstrip("="), f"a={good}"):
        with net.raises(ProviderConfigError):
            FileKeyProvider(wrong)
        with net.raises(ProviderConfigError):
            FileKeyProvider.from_url(f"file:{wrong}")
    with net.raises(TypeError):
        FileKeyProvider(net.secret)  # type: ignore[arg-type]  # what is tested


@case(
    "EnvKeyProvider", "EnvKeyProvider.active", "EnvKeyProvider.get", "EnvKeyProvider.names", "EnvKeyProvider.from_url"
)
def keys_in_the_environment(net: Net, folder: Path) -> None:
    good = net.key_text
    with pytest.MonkeyPatch.context() as environment:
        provider = EnvKeyProvider("SENTINEL_KEYS")
        environment.setenv("SENTINEL_KEYS", f"new={good}")
        net.see(provider)
        net.see(provider.active())
        net.see(provider.names())
        with net.raises(KeyNotFoundError):
            provider.get("no-such-name")
        bad = [text for text in damaged(good) if "\ud800" not in text]
        bad += [f"name={text}" for text in bad] + [f"{good}, {text}" for text in bad]
        bad += [f"{good}={good}", f"{good}{good}", f"{good},,{good}", f"{good},{good}", f"a={good},a={'A' * 43}="]
        bad += [f"a={good}\nb", f"na me={good}", f"={good}", f"a=={good}", f"{good};{good}", net.secret.hex()]
        bad += [f"a={net.secret.hex()}", f"{net.secret.hex()}="]
        for text in bad:
            environment.setenv("SENTINEL_KEYS", text)
            with net.raises(InvalidKeyError):
                provider.active()
            with net.raises(InvalidKeyError):
                provider.get("new")
    for variable in (good, good.rstrip("="), f"SESSION KEYS={good}", f"{good[:20]}-{good[20:]}", f"a={good}"):
        with net.raises(ProviderConfigError):
            EnvKeyProvider(variable)
        with net.raises(ProviderConfigError):
            EnvKeyProvider.from_url(f"env:{variable}")
    with net.raises(TypeError):
        EnvKeyProvider(net.secret)  # type: ignore[arg-type]  # what is tested


@case("open_provider", "open_keyset", "KeyRing.from_url")
def urls_that_are_keys(net: Net, folder: Path) -> None:
    good = net.key_text
    urls = [good, f" {good}", f"env:{good}", f"ENV:{good}", f"env://{good}", f"{good}:", f"nothing:{good}"]
    urls += [f"vault-kv:{good}", f"file:{good}", f"aws-kms://{good}@host", f"https://user:{good}@host/{good}", ""]
    for url in urls:
        with net.raises(ProviderConfigError):
            open_provider(url)
        with net.raises(ProviderConfigError):
            open_keyset(url)
        with net.raises(ProviderConfigError):
            KeyRing.from_url(url)
        with net.raises(ProviderConfigError):
            KeyRing(StaticKeyProvider(net.master()), also_read=[url])
    for wrong in (net.secret, net.master(), None):
        with net.raises(TypeError):
            open_provider(wrong)  # type: ignore[arg-type]  # what is tested
    with net.raises(TypeError):
        open_provider("env:SENTINEL_KEYS", allow_insecure=good)  # type: ignore[arg-type]  # what is tested


# -- Servers: their SDKs log requests and answers, and the log is read at DEBUG -----------------------


@contextlib.contextmanager
def environment_of(prefixes: tuple[str, ...], **variables: str) -> Iterator[None]:
    """Only these variables of those with such names."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(prefixes) or name.upper().endswith("_PROXY"):
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@contextlib.contextmanager
def aws(net: Net) -> Iterator[tuple[str, int]]:
    """AWS, and credentials of which the session token is the sentinel text."""
    credentials = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": net.text.text[::-1]}
    net.also(net.text.bytes[::-1])
    settings = {"AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
    with (
        environment_of(("AWS_",), AWS_SESSION_TOKEN=net.text.text, **credentials, **settings),
        moto_server() as (host, port),
    ):
        yield host, port


@contextlib.contextmanager
def nobody_logs() -> Iterator[None]:
    """For what the test itself does with the SDK."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


async def keys_of_a_server(net: Net, url: str, *unknown: str) -> Key:
    """Read by a ring and by a provider; what it does not have is an error."""
    async with KeyRing.from_url(url) as ring:
        key = await ring.active()
        assert await ring.get(key.kid) == key == await ring.refresh()
        net.see(ring)
    provider = open_provider(url)
    net.see(provider)
    assert key.name is not None
    assert provider.active() == provider.get(key.name) == key
    for name in unknown:
        with net.raises(KeyNotFoundError):
            provider.get(name)
    return key


@case("open_provider", "KeyRing.from_url")
async def keys_in_secrets_manager(net: Net, folder: Path) -> None:
    with aws(net) as moto:
        with nobody_logs():
            client_of("secretsmanager", moto).create_secret(Name="sentinel", SecretString=net.key_text)
        endpoint = f"endpoint_url=http://{moto[0]}:{moto[1]}"
        key = await keys_of_a_server(net, f"aws-secretsmanager:sentinel?{endpoint}", "0" * 32)
        assert key.secret == net.secret
        with net.raises(KeyNotFoundError):
            open_provider(f"aws-secretsmanager:other?{endpoint}").active()


@case("open_provider", "open_keyset", "KeyRing.from_url")
async def keys_under_kms(net: Net, folder: Path) -> None:
    with aws(net) as moto:
        with nobody_logs():
            made = client_of("kms", moto).create_key()["KeyMetadata"]["KeyId"]
        url = f"aws-kms:{made}?endpoint_url=http://{moto[0]}:{moto[1]}&keyset=file:{folder}/keyset.json"
        with contextlib.closing(open_keyset(url)) as keyset:
            keyset.create()
            key = await keys_of_a_server(net, url, "other")
            net.also(key.secret)
            keyset.rewrap()
        with contextlib.closing(AwsKmsKeyWrapper(made, endpoint_url=f"http://{moto[0]}:{moto[1]}")) as wrapper:
            old = make_format_1(wrapper, FileKeysetStore(folder / "old.json"), "first")
        net.also(old["first"])
        with contextlib.closing(open_keyset(url.replace("keyset.json", "old.json"))) as keyset:
            net.see(keyset.upgrade())


@case("open_provider", "KeyRing.from_url")
async def keys_in_vault(net: Net, folder: Path) -> None:
    role = {"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": net.text.text[::-1]}
    net.also(net.text.bytes[::-1])
    vault = ScriptedVault()
    with contextlib.closing(vault), environment_of(("VAULT_", "BAO_"), VAULT_TOKEN=net.text.text, **role):
        vault.has_key(net.master())
        vault.on("GET", "/v1/secret/data/agents/session-key?version=1", Reply(200, vault.secret(net.master())))
        vault.on("POST", "/v1/auth/approle/login", vault.granted(net.text.text))
        for auth in ("token", "approle"):
            url = f"vault-kv:secret/agents/session-key?address={vault.url}&auth={auth}"
            assert (await keys_of_a_server(net, url, "2")).secret == net.secret
        vault.on("POST", "/v1/auth/approle/login", Reply(400, {"errors": [f"no such id {role['VAULT_SECRET_ID']}"]}))
        with net.raises(KeyAccessDeniedError):
            open_provider(url).active()


@case("open_provider", "open_keyset", "KeyRing.from_url")
async def keys_under_transit(net: Net, folder: Path) -> None:
    with environment_of(("VAULT_", "BAO_"), VAULT_TOKEN=net.text.text):
        vault = ScriptedVault()
        with contextlib.closing(vault):
            wrapped, plain = "vault:v1:c2VhbGVk", {"plaintext": base64.b64encode(net.secret).decode()}
            vault.on(
                "POST",
                "/v1/transit/datakey/plaintext/agents",
                Reply(400, {"errors": ["missing 'context' for key derivation"]}),
                Reply(200, {"data": {**plain, "ciphertext": wrapped}}),
            )
            vault.on("POST", "/v1/transit/decrypt/agents", Reply(200, {"data": plain}))
            # It asks first for a key without a context, which a key that is derived refuses.
            url = f"vault-transit:agents?address={vault.url}&keyset=file:{folder}/keyset.json"
            with contextlib.closing(open_keyset(url)) as keyset:
                keyset.create()
            assert (await keys_of_a_server(net, url, "other")).secret == net.secret


# -- The ring -------------------------------------------------------------------------------------


@case(
    *("KeyRing", "KeyRing.active", "KeyRing.active_sync", "KeyRing.get", "KeyRing.get_sync", "KeyRing.refresh"),
    *("KeyRing.health", "KeyRing.aclose", "KeyRing.close", "KeyRing.ephemeral", "KeyEvent", "RingHealth"),
    "RingHealth.as_dict",
    *("KeyRing.deadline_s", "KeyRing.kids", "KeyRing.lease", "KeyRing.strict", "KeyNotAskedError"),
    "InsecurePermissionsWarning",
)
async def a_ring(net: Net, folder: Path) -> None:
    events: list[KeyEvent] = []
    ring = KeyRing(StaticKeyProvider(net.master(), Key.generate("older")), on_event=events.append)
    net.see(ring)
    async with ring:
        key = await ring.active()
        assert ring.active_sync() == await ring.get(key.kid) == ring.get_sync(key.kid) == await ring.refresh()
        for kid in ("old~00000000", "sentinel~00000000", "hkdf-v1", "", "\x1b[31m~00000000"):
            with net.raises(KeyNotFoundError):
                await ring.get(kid)
            with net.raises(KeyNotFoundError):
                ring.get_sync(kid)
        assert ring.deadline_s == 8
        assert key.kid in await ring.kids()
        net.see(ring.lease(key))
        with net.raises(KeyNotAskedError):
            await ring.get("never~00000000", asker="user-1", wait_s=0)
        net.see(ring)
        health = ring.health()
        assert isinstance(health, RingHealth)
        net.see(health)
        net.see(health.as_dict())
    with net.raises(KeyProviderError):
        await ring.active()
    net.see(KeyRing.ephemeral())
    net.see(InsecurePermissionsWarning("others may read it"))
    assert events
    for event in events:
        net.see(event)
    ring.close()
    await ring.aclose()


@case("KeyRings", "KeyRings.get", "KeyRings.wrap", "KeyRings.health", "KeyRings.aclose")
async def rings_of_tenants(net: Net, folder: Path) -> None:
    variable = "SESSION_KEYS_OF_A_TENANT"
    ring = KeyRing(StaticKeyProvider(net.master()))
    places: dict[str, Any] = {"given": ring, "opened": f"env:{variable}", "wrong": net.key_text, "odd": net.secret}
    os.environ[variable] = net.key_text
    try:
        async with KeyRings(places.get) as keys:
            for tenant in ("given", "opened"):
                session = await keys.wrap(PlainSession("user-1", []), tenant, ttl=60)
                await session.add_items([{"role": "user", "content": "hello"}])
                net.see(await keys.get(tenant))
            for tenant in ("wrong", "odd", "unknown"):
                with net.raises(ProviderConfigError, TypeError, KeyNotFoundError):
                    await keys.get(tenant)
            net.see(keys)
            net.see(keys.health())
    finally:
        del os.environ[variable]
        ring.close()
    with net.raises(KeyProviderError):
        await keys.get("given")


@case("KeyRing", "CachePolicy", "RetryPolicy")
def wrong_arguments_for_a_ring(net: Net, folder: Path) -> None:
    good = StaticKeyProvider(net.master())
    for wrong in (net.key_text, net.secret, net.master(), [good], None):
        with net.raises(TypeError):
            KeyRing(wrong)  # type: ignore[arg-type]  # what is tested
        if not isinstance(wrong, (list, type(None))):
            with net.raises(TypeError, ProviderConfigError):
                KeyRing(good, also_read=[wrong])  # type: ignore[list-item]  # what is tested
    with net.raises(TypeError):
        KeyRing(good, also_read=net.key_text)
    for argument in ("cache", "retry", "on_event", "clock", "sleep"):
        with net.raises(TypeError):
            KeyRing(good, **{argument: net.key_text})  # type: ignore[arg-type]  # what is tested
    for policy in (CachePolicy, RetryPolicy):
        for field in policy.__slots__:
            with net.raises(TypeError):
                policy(**{field: "5"})
        net.see(policy())


@case(
    *("KeyProvider", "KeyProvider.active", "KeyProvider.get", "KeyProviderError", "KeyUnavailableError"),
    *("KeyAccessDeniedError", "KeyNotFoundError", "KeyDisabledError", "KeyDestroyedError", "InvalidKeyError"),
    "ProviderConfigError",
)
async def a_provider_that_fails(net: Net, folder: Path) -> None:
    kinds = [KeyProviderError, KeyUnavailableError, KeyAccessDeniedError, KeyNotFoundError, KeyDisabledError]
    for kind in [*kinds, KeyDestroyedError, InvalidKeyError, ProviderConfigError]:
        net.see(kind("the place said no"))
        provider = FailingKeys(net.master(), kind("the place said no"))
        assert isinstance(provider, KeyProvider)
        ring = KeyRing(provider, retry=ONCE)
        for ask in (ring.active, ring.refresh, functools.partial(ring.get, net.master().kid)):
            with net.raises(kind):
                await ask()
        with net.raises(kind):
            ring.active_sync()
        with net.raises(kind):
            ring.get_sync(net.master().kid)
    net.see(KeyUnavailableError("later", retry_after_s=2.5))


@case("KeyProvider")
async def a_provider_whose_own_errors_show_its_key(net: Net, folder: Path) -> None:
    """What a stranger's error says passes to the caller as it is; the library adds it to no log."""

    class CarelessError(Exception):
        pass

    for failure in (CarelessError(f"no key {net.key_text}"), UnicodeDecodeError("utf-8", net.secret, 0, 1, "what")):
        ring = failing_ring(net.master(), failure)
        with pytest.raises(type(failure)):
            await ring.active()
        with pytest.raises(type(failure)):
            ring.get_sync(net.master().kid)
        session = EncryptedSession.wrap(FailingStore(), ring, ttl=60)
        with pytest.raises(type(failure)):
            await session.add_items([net.item()])  # type: ignore[list-item]  # a message


@case("KeyProvider")
async def a_provider_that_answers_with_something_else(net: Net, folder: Path) -> None:
    for answer in (net.secret, net.key_text, {"key": net.key_text}, bytearray(net.secret)):
        ring = failing_ring(answer)  # type: ignore[arg-type]  # what is tested
        with net.raises(InvalidKeyError):
            await ring.active()
        with net.raises(InvalidKeyError):
            ring.active_sync()
        with net.raises(InvalidKeyError):
            await ring.get(net.master().kid)


@case("redact_frames")
async def redaction(net: Net, folder: Path) -> None:
    names = {"__name__": "keyproviders.somewhere", "redact_frames": redact_frames}
    source = """
@redact_frames
def fails(secret):
    kept = [secret]
    def inner(secret):
        try:
            raise ValueError("first")
        except ValueError:
            raise KeyError("second")
    inner(secret)

@redact_frames
async def fails_later(secret):
    fails(secret)
"""
    exec(source, names)  # noqa: S102 - functions of a module of ours that is not there
    with net.raises(KeyError):
        names["fails"](net.secret)  # type: ignore[operator]  # made above
    with net.raises(KeyError):
        await names["fails_later"](secret=net.secret)  # type: ignore[operator]  # made above


# -- Sessions -------------------------------------------------------------------------------------


@case("EncryptedSession", "WeakKeyWarning", "LongSessionIdWarning")
def a_session_with_a_string_key(net: Net, folder: Path) -> None:
    for text in (net.key_text, net.key_text.rstrip("="), net.key.text, net.key.text * 3, f" {net.key_text}\n"):
        session = EncryptedSession("session", FailingStore(), text)
        net.see(session)
    net.see(WeakKeyWarning("a weak key"))
    net.see(LongSessionIdWarning("a long id"))


@case("EncryptedSession", "EncryptedSession.wrap")
def wrong_arguments_for_a_session(net: Net, folder: Path) -> None:
    ring = KeyRing(StaticKeyProvider(net.master()))
    bad_strings = [f"{scheme}:{net.key_text}" for scheme in known_schemes()]
    bad_strings += [net.key_text + "\ud800", f" ENV:{net.key_text}", ""]
    for text in bad_strings:
        with net.raises(ValueError):
            EncryptedSession("session", FailingStore(), text)
        with net.raises(ValueError):
            EncryptedSession("session", FailingStore(), ring, upstream_key=text)
        with net.raises(ValueError):
            EncryptedSession.wrap(FailingStore(), ring, ttl=60, upstream_key=text)
    with net.raises(ValueError):
        EncryptedSession("session", FailingStore(), net.key_text, upstream_key=net.key_text)
    for wrong in (net.secret, net.master(), [net.key_text], {"key": net.key_text}):
        with net.raises(TypeError):
            EncryptedSession("session", FailingStore(), wrong)  # type: ignore[arg-type]  # what is tested
        with net.raises(TypeError):
            EncryptedSession("session", FailingStore(), ring, upstream_key=wrong)  # type: ignore[arg-type]  # likewise
        with net.raises(TypeError):
            EncryptedSession.wrap(FailingStore(), ring, ttl=60, upstream_key=wrong)  # type: ignore[arg-type]  # likewise
    for keys in (net.key_text, net.secret, net.master(), StaticKeyProvider(net.master())):
        with net.raises(TypeError):
            EncryptedSession.wrap(FailingStore(), keys, ttl=60, upstream_key=net.key_text)  # type: ignore[arg-type]
    # The arguments after the key: each is wrong while the key is at hand.
    for more in (
        *({"ttl": 0}, {"ttl": net.key_text}, {"max_scan_items": net.key_text}, {"max_scan_items": -1}),
        *({"on_unreadable": net.key_text}, {"plaintext": net.key_text}, {"on_unreadable": net.secret}),
    ):
        with net.raises(TypeError, ValueError):
            EncryptedSession("session", FailingStore(), net.key_text, **more)  # type: ignore[arg-type]  # likewise
    for store in (None, FailingStore, net.key_text, object()):
        with net.raises(TypeError):
            EncryptedSession("session", store, net.key_text)
        with net.raises(TypeError):
            EncryptedSession.wrap(store, ring, ttl=60, upstream_key=net.key_text)
    for session_id in ("", "\0", "\ud800", 5):
        with net.raises(TypeError, ValueError):
            EncryptedSession(session_id, FailingStore(), net.key_text)  # type: ignore[arg-type]  # likewise
    EncryptedSession("another", FailingStore(), net.key_text)


@case(
    *("EncryptedSession", "EncryptedSession.session_id", "EncryptedSession.underlying_session"),
    *("EncryptedSession.session_settings", "EncryptedSession.ttl", "EncryptedSession.clear_session"),
    *("EncryptedSession.get_items", "EncryptedSession.add_items", "EncryptedSession.pop_item"),
    *("EncryptedSession.read", "History"),
)
async def a_session_at_work(net: Net, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0  # asyncio logs each step with the repr of its task
    async for store in each_store(folder):
        session = EncryptedSession.wrap(
            store, KeyRing(StaticKeyProvider(net.master())), ttl=60, upstream_key=net.key_text
        )
        await session.add_items([net.item()] * 3)  # type: ignore[list-item]  # messages
        net.see(session)
        assert (await session.get_items())[0] == net.item() == await session.pop_item()
        history = await session.read()
        assert len(history.items) == 2
        net.add("repr of a history", f"{history!r} {history}")
        await session._read_compaction_items(None)
        await session._read_compaction_items(5)
        net.see(session)
        for wrong in ("5", True, -1):
            with net.raises(TypeError, ValueError):
                await session.get_items(wrong)  # type: ignore[arg-type]  # what is tested
            with net.raises(TypeError, ValueError):
                await session.read(wrong)  # type: ignore[arg-type]  # what is tested
            with net.raises(TypeError, ValueError):
                session.ttl = wrong  # type: ignore[assignment]  # what is tested
        for name in ("session_id", "underlying_session"):
            with net.raises(AttributeError):
                setattr(session, name, "another")
        with net.raises(AttributeError):
            session.no_such_attribute  # type: ignore[attr-defined]  # noqa: B018 - what is tested
        net.add("settings", f"{session.session_settings!r}")
        await session.clear_session()
        net.add("at rest", repr(store.__dict__))


async def each_store(folder: Path) -> AsyncIterator[Any]:
    """A store with addressable rows and one without, ready to work and to fail."""
    in_file = SQLiteSession("session", folder / "sessions.db")
    try:
        yield in_file
    finally:
        in_file.close()
    yield FailingStore()


@case("EncryptedSession.add_items")
async def items_that_are_no_json(net: Net, folder: Path) -> None:
    async for store in each_store(folder):
        session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(net.master())), ttl=60)
        await session.add_items([net.item()])  # type: ignore[list-item]  # a message
        for kind, item in rejections(net):
            with net.raises(TypeError):
                await session.add_items([net.item(), item, net.item()])
            assert len((await session.read()).items) == 1, kind
        for items in (net.item(), net.text.text, (item for item in [net.item()]), None, {net.text.text}):
            with net.raises(TypeError):
                await session.add_items(items)  # type: ignore[arg-type]  # what is tested
        assert len((await session.read()).items) == 1


@case("EncryptedSession.add_items")
async def a_model_with_a_field_of_an_unexpected_type(net: Net, folder: Path) -> None:
    """Pydantic would warn, and quote the value."""

    class Counted(BaseModel):
        role: str
        content: int

    session = EncryptedSession.wrap(FailingStore(), KeyRing(StaticKeyProvider(net.master())), ttl=60)
    with contextlib.suppress(TypeError):
        await session.add_items([Counted.model_construct(role="user", content=net.text.text)])  # type: ignore[list-item]


@case("EncryptedSession")
async def a_store_that_fails_in_the_midst(net: Net, folder: Path) -> None:
    store = FailingStore()
    session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(net.master())), ttl=60)
    for methods in ({"get_items"}, {"add_items"}, {"pop_item"}, {"clear_session"}, {"get_items", "add_items"}):
        store.broken = set()
        await session.clear_session()
        await session.add_items([net.item()])  # type: ignore[list-item]  # a message
        store.broken = methods
        for use in uses(session, net):
            with contextlib.suppress(EncryptedSessionError, AssertionError):
                await fails_or_not(net, use, OSError)
    assert {"get_items", "add_items", "pop_item", "clear_session"} <= set(store.calls)


async def fails_or_not(net: Net, use: Callable[[], Awaitable[Any]], *kinds: type[BaseException]) -> bool:
    """Whether it failed; if so, the error is seen."""
    failed = True
    with contextlib.ExitStack() as caught:
        caught.enter_context(net.raises(*kinds, WentWellError))
        await use()
        failed = False
        raise WentWellError
    return failed


class WentWellError(Exception):
    """A use went well."""


def uses(session: EncryptedSession, net: Net) -> list[Callable[[], Awaitable[Any]]]:
    """Everything that a run does to a session."""

    async def compact_tail() -> None:
        snapshot = await session._get_compaction_snapshot(10)
        if snapshot is not None:
            net.add("repr of a snapshot", repr(snapshot))
            await snapshot.replace_suffix(0, [net.item()])

    return [
        session.get_items,
        functools.partial(session.get_items, 1),
        session.read,
        functools.partial(session.add_items, [net.item()]),  # type: ignore[list-item]  # a message
        session.pop_item,
        functools.partial(session._read_compaction_items, None),
        functools.partial(session._read_compaction_items, 10),
        functools.partial(session._atomic_replace_items, [net.item()]),
        compact_tail,
        session.clear_session,
    ]


@case("EncryptedSession")
async def a_database_that_fails_in_the_midst(net: Net, folder: Path) -> None:
    import sqlite3

    async for store in each_store(folder):
        if not isinstance(store, SQLiteSession):
            continue
        session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(net.master())), ttl=60)
        await session.add_items([net.item()] * 3)  # type: ignore[list-item]  # messages
        snapshot = await session._get_compaction_snapshot(10)
        with contextlib.closing(sqlite3.connect(folder / "sessions.db")) as other:
            other.execute("DROP TABLE agent_messages")
        for use in [*uses(session, net), functools.partial(snapshot.replace_suffix, 0, [net.item()])]:
            assert await fails_or_not(net, use, sqlite3.Error)


@case("EncryptedSession", "KeyProvider")
async def a_provider_that_fails_in_the_midst(net: Net, folder: Path) -> None:
    async for store in each_store(folder):
        for kind in (KeyUnavailableError, KeyAccessDeniedError, InvalidKeyError, ProviderConfigError):
            provider = FailingKeys(net.master())
            writer = EncryptedSession.wrap(store, KeyRing(provider), ttl=60)
            await writer.add_items([net.item()] * 2)  # type: ignore[list-item]  # messages
            snapshot = await writer._get_compaction_snapshot(10)
            provider = FailingKeys(net.master(), kind("the place said no"))
            session = EncryptedSession.wrap(store, KeyRing(provider, retry=ONCE), ttl=60)
            for use in uses(session, net)[:-1]:
                net.add("use", str(await fails_or_not(net, use, kind)))
            if snapshot is not None:
                writer._sealed.keychain._ring.close()  # type: ignore[attr-defined]  # no key can be had from now on
                with net.raises(KeyProviderError):
                    await snapshot.replace_suffix(0, [net.item()])


@case("EncryptedSession")
async def what_compaction_cannot_write(net: Net, folder: Path) -> None:
    async for store in each_store(folder):
        session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(net.master())), ttl=60)
        await session.add_items([net.item()] * 2)  # type: ignore[list-item]  # messages
        for _, item in rejections(net):
            with net.raises(TypeError):
                await session._atomic_replace_items([net.item(), item])
            snapshot = await session._get_compaction_snapshot(10)
            if snapshot is not None:
                with net.raises(TypeError):
                    await snapshot.replace_suffix(0, [net.item(), item])
        assert len(await session.get_items()) == 2


@case("EncryptedSession")
async def cancellation(net: Net, folder: Path) -> None:
    for place in ("provider", "get_items", "add_items", "pop_item"):
        store = FailingStore()
        writer = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(net.master())), ttl=60)
        await writer.add_items([net.item()] * 2)  # type: ignore[list-item]  # messages
        provider = FailingKeys(net.master())
        if place == "provider":
            provider.gate.clear()
        else:
            store.hanging = {place}
        session = EncryptedSession.wrap(store, KeyRing(provider), ttl=60)
        for use in (session.get_items, session.read, functools.partial(session.add_items, [net.item()])):  # type: ignore[list-item]
            task = asyncio.ensure_future(use())  # type: ignore[operator,var-annotated]  # each is a method
            await asyncio.wait([task], timeout=0.02)
            task.cancel()
            if await asyncio.wait([task]) and not task.cancelled() and task.exception() is None:
                continue
            with net.raises(asyncio.CancelledError):
                await task
        provider.gate.set()


@case("EncryptedSession", "EncryptedSessionError", "ScanBudgetError", "HistoryChangedError", "PutBackError")
async def errors_that_carry_something(net: Net, folder: Path) -> None:
    """A store that does not take an item back, a budget that is used up, a history that changes."""
    store = FailingStore()
    session = EncryptedSession(
        "session", store, KeyRing(StaticKeyProvider(net.master())), ttl=60, max_scan_items=2, upstream_key=net.key_text
    )
    await session.add_items([net.item()] * 3)  # type: ignore[list-item]  # messages
    with net.raises(RuntimeError):
        await session.get_items()
    await session._read_compaction_items(None)
    await session.add_items([net.item()])  # type: ignore[list-item]  # a message
    with net.raises(EncryptedSessionError):
        await session._atomic_replace_items([net.item()])
    store.hanging = {"pop_item"}
    popping = asyncio.ensure_future(session.pop_item())
    await store.hangs.wait()
    popping.cancel()
    store.broken, store.hanging = {"add_items"}, set()
    store.released.set()
    with net.raises(EncryptedSessionError):
        await popping


# -- What cannot be read --------------------------------------------------------------------------

ESCAPES = "\x1b[2J\x1b]0;title\x07\r\n\u202e\x9b31m"


@case("UnreadableItemsError", "UnreadableItemsError.of", "Finding", "Finding.place", "EncryptedSessionError", "History")
async def rows_that_cannot_be_read(net: Net, folder: Path) -> None:
    text = net.text.text
    async for store in each_store(folder):
        ring = KeyRing(StaticKeyProvider(net.master()))
        session = EncryptedSession.wrap(store, ring, ttl=60)
        await session.add_items([net.item()])  # type: ignore[list-item]  # a message
        (good,) = await store.get_items()
        rows = [
            {
                **good,
                "payload": good["payload"][:60] + ("A" if good["payload"][60] != "A" else "B") + good["payload"][61:],
            },
            {**good, "kid": f"{ESCAPES}~00000000"},
            {**good, "kid": "gone~00000000"},
            {**good, "kid": f"{text} is no kid"},
            {**good, "v": 3, "more": text},
            {**good, "payload": text},
            {"__enc__": text},
            net.item(),
            {"role": "user", "content": [{"text": text}], text: 1},
        ]
        for row in rows:
            await store.add_items([row])
            for use in uses(session, net)[:2]:
                with net.raises(UnreadableItemsError):
                    await use()
            with net.raises(UnreadableItemsError):
                await session.pop_item()
            await fails_or_not(
                net, functools.partial(session._atomic_replace_items, [net.item()]), UnreadableItemsError
            )
            lenient = EncryptedSession.wrap(store, ring, ttl=60, on_unreadable="skip")
            assert net.item() in await lenient.get_items()
            history = await lenient.read()
            net.add("history", repr(history.findings) + " ".join(finding.place() for finding in history.findings))
            assert len(history.findings) == sum(history.outcomes.values()) - 1
        net.see(Finding(0, "unauthentic", "a~00000000"))
        net.see(EncryptedSessionError("what happened"))


@case("UnreadableItemsError")
async def terminal_escapes_in_rows(net: Net, folder: Path) -> None:
    """Who can write the store shall not write to the terminal of who reads the log."""
    async for store in each_store(folder):
        ring = KeyRing(StaticKeyProvider(net.master()))
        session = EncryptedSession.wrap(store, ring, ttl=60, on_unreadable="skip")
        await session.add_items([net.item()])  # type: ignore[list-item]  # a message
        (good,) = await store.get_items()
        for kid in (ESCAPES, f"{ESCAPES}~00000000", f"name~{ESCAPES}", f"sentinel~00000000{ESCAPES}", "\n".join("ab")):
            await store.add_items([{**good, "kid": kid}])
        before = len(net.caught)
        strict = EncryptedSession.wrap(store, ring, ttl=60)
        with net.raises(UnreadableItemsError):
            await strict.get_items()
        with net.raises(UnreadableItemsError):
            await strict.pop_item()
        await session.get_items()
        net.add("findings", repr((await session.read()).findings))
        said = [shown for where, shown in net.caught[before:] if where.startswith(("Unreadable", "log of", "findings"))]
        assert said
        for shown in said:
            assert not set(ESCAPES[:1] + "\x07\u202e\x9b") & set(shown)


def sealed_at(net: Net, key: Key, timestamp: float) -> dict[str, Any]:
    """The sentinel text under a key, for the session "session"."""
    return pack(key.kid, FernetCipher.derive(key.secret, "session").seal(net.item(), int(timestamp)))


@case("UnreadableItemsError", "EncryptedSession.add_items", "EncryptedSession.read", "Key")
async def rows_that_are_too_large_too_late_or_from_the_future(net: Net, folder: Path) -> None:
    now = time.time()
    rotated = Key("rotated", net.secret, written_until=datetime(2001, 1, 1, tzinfo=timezone.utc))
    active = Key.generate("active")
    net.also(active.secret)
    too_large = {"role": "user", "content": net.text.text * 200}
    rows = {
        "late_key": sealed_at(net, rotated, now),
        "too_large": too_large,
        "not_yet_valid": sealed_at(net, active, now + 10_000),
    }
    async for store in each_store(folder):
        ring = KeyRing(StaticKeyProvider(active, rotated))
        options: dict[str, Any] = {"ttl": 60, "max_row_bytes": 4_096}
        session = EncryptedSession.wrap(store, ring, **options)
        with net.raises(ValueError):
            await session.add_items([net.item(), too_large])  # type: ignore[list-item]  # messages
        with net.raises(ValueError):
            await session._atomic_replace_items([too_large])
        for outcome, row in rows.items():
            await store.clear_session()
            await store.add_items([row])
            for use in (session.get_items, session.pop_item):
                with net.raises(UnreadableItemsError):
                    await use()
            history = await session.read()
            assert history.outcomes == {"ok": 0, outcome: 1}
            net.see(list(history.findings))
            lenient = EncryptedSession.wrap(store, ring, on_unreadable="skip", **options)
            assert await lenient.get_items() == []
        ring.close()


@case("UnreadableItemsError", "KeyNotAskedError")
async def rows_whose_key_was_not_asked_for(net: Net, folder: Path) -> None:
    class Slow(FailingKeys):
        def get(self, name: str) -> Key:
            time.sleep(0.05)
            raise KeyNotFoundError("no such key")

    store = FailingStore()
    key = net.master()
    await store.add_items([{**sealed_at(net, key, time.time()), "kid": f"made-up-{n}~00000000"} for n in range(20)])
    ring = KeyRing(Slow(key), retry=RetryPolicy(attempts=1, deadline_s=1.0))
    session = EncryptedSession.wrap(store, ring, ttl=60)
    with net.raises(UnreadableItemsError):
        await session.get_items()
    assert (await session.read()).outcomes["key_not_asked"] > 0
    ring.close()


@case("EncryptedSession", "StoreTimeoutError")
async def a_call_that_is_let_go_while_its_store_hangs(net: Net, folder: Path) -> None:
    store = FailingStore()
    session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(net.master())), ttl=60, shield_s=0.05)
    await session.add_items([net.item()] * 2)  # type: ignore[list-item]  # messages
    store.hanging = {"pop_item"}
    popping = asyncio.ensure_future(session.pop_item())
    await store.hangs.wait()
    popping.cancel()
    with net.raises(asyncio.CancelledError):
        await popping
    store.broken, store.hanging = {"add_items"}, set()
    store.released.set()
    with net.raises(EncryptedSessionError):  # the item, which the store did not take back
        await session.get_items()


@case("KeyRing.from_url", "open_provider", "WeakKeyWarning", "InsecurePermissionsWarning", "LongSessionIdWarning")
async def what_is_warned_of_and_refused_where_it_is_strict(net: Net, folder: Path) -> None:
    path = folder / "open"
    path.touch(mode=0o600)
    path.write_text(net.key_text)
    path.chmod(0o666)
    assert open_provider(f"file:{path}").active().secret == net.secret
    with net.raises(ProviderConfigError):
        open_provider(f"file:{path}", strict=True).active()
    path.chmod(0o600)
    weak = base64.b64encode(net.text.bytes[:32]).decode()  # letters alone: as a sentence is
    (folder / "weak").touch(mode=0o600)
    (folder / "weak").write_text(weak)
    async with KeyRing.from_url(f"file:{folder}/weak") as ring:
        await EncryptedSession.wrap(FailingStore(), ring, ttl=60, upstream_key=net.text.text).read()
    with net.raises(InvalidKeyError):
        await KeyRing.from_url(f"file:{folder}/weak", strict=True).active()
    strict = KeyRing.from_url(f"file:{path}", strict=True)
    with net.raises(ValueError):
        EncryptedSession.wrap(FailingStore(), strict, ttl=60, upstream_key=net.text.text)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
        with net.raises(ValueError):
            EncryptedSession("session", FailingStore(), net.text.text)
    strict.close()


# -- Events ---------------------------------------------------------------------------------------


@case(
    *("SessionEvent", "ItemCount", "RunEvent", "KeysetEvent", "observe", "audit_context", "EncryptedSession"),
    *("ProviderCall", "observe_calls", "RingSnapshot", "snapshot_rings", "KeysetCall", "observe_keysets"),
)
async def events_and_those_who_are_told(net: Net, folder: Path) -> None:
    told: list[Any] = []
    ring = KeyRing(StaticKeyProvider(net.master()))

    def fails(event: object) -> None:
        told.append(event)
        raise ValueError(net.text.text)

    stop = observe(fails)
    calls: list[Any] = []
    stop_calls = keyproviders.observe_calls(calls.append)
    changes: list[Any] = []
    stop_changes = keyproviders.observe_keysets(changes.append)
    with audit_context(actor="u-17"):
        session = EncryptedSession.wrap(FailingStore(), ring, ttl=60, on_event=fails)
        await session.add_items([net.item()])  # type: ignore[list-item]  # messages
        await session.underlying_session.add_items([{"__enc__": net.text.text}, {"content": net.text.text}])
        with net.raises(UnreadableItemsError):
            await session.get_items()
        net.see(session)
        async with maintenance.open_store(f"sqlite:///{await a_database(folder)}") as store:
            await maintenance.verify(store, ring)
    manager = KeysetManager(FakeKeyWrapper("kek"), FileKeysetStore(folder / "keyset.json"))
    manager.create()
    with net.raises(TypeError):
        manager.retire(net.secret)  # type: ignore[arg-type]  # what is tested
    stop()
    stop_calls()
    stop_changes()
    net.see(calls)
    net.see(changes)
    net.see(keyproviders.snapshot_rings())
    assert calls
    assert changes
    for event in told:
        net.see(event)
    assert {type(event).__name__ for event in told} == {"SessionEvent", "RunEvent", "KeyEvent", "KeysetEvent"}
    net.see([*told[-3:], ItemCount("a~00000000", "ok", 1)])
    for wrong in (net.text.text, net.secret, net.master()):
        with net.raises(TypeError):
            observe(wrong)  # type: ignore[arg-type]  # what is tested
        with net.raises(TypeError):
            EncryptedSession.wrap(FailingStore(), ring, ttl=60, on_event=wrong)  # type: ignore[arg-type]  # likewise
    for value in (net.text.text + "\n", net.text.text * 100):
        with net.raises(ValueError):
            audit_context(actor=value)
    with net.raises(TypeError):
        audit_context(actor=net.secret)  # type: ignore[arg-type]  # what is tested
    ring.close()


@case(
    "AuditLog",
    "AuditLog.before",
    "AuditLog.after",
    "AuditLog.close",
    "AuditLog.asks",
    "AuditLog.refuses",
    "AuditLog.lines_lost",
    "AuditFailedError",
)
async def an_audit_log_and_what_it_cannot_write(net: Net, folder: Path) -> None:
    where = folder / "audit"
    where.mkdir(mode=0o700)
    ring = KeyRing(StaticKeyProvider(net.master()))
    for on_failure in ("continue", "refuse"):
        log = AuditLog(
            where,
            session_ids="hashed",
            pseudonym_keys=ring,
            chain_keys=ring,
            on_failure=on_failure,  # type: ignore[arg-type]  # one of its words
        )
        session = EncryptedSession.wrap(FailingStore(), ring, ttl=60, on_event=log)
        await session.add_items([net.item()])  # type: ignore[list-item]  # messages
        await session.underlying_session.add_items([{"__enc__": net.text.text}, {"content": net.text.text}])
        with net.raises(UnreadableItemsError):
            await session.get_items()
        with pytest.MonkeyPatch.context() as full:
            full.setattr("encrypted_sessions.audit.files.AuditFile.append", lambda *_: os.write(-1, b""))
            if on_failure == "refuse":
                with net.raises(AuditFailedError):
                    await session.add_items([net.item()])  # type: ignore[list-item]  # messages
        net.see([log, log.asks, log.refuses, log.lines_lost])
        log.close()
    for file in where.iterdir():
        net.see(file.read_text())
    with net.raises(ValueError):
        AuditLog(where, chain_keys=net.text.text)
    with net.raises(TypeError):
        AuditLog(where, chain_keys=net.master())  # type: ignore[arg-type]  # what is tested
    ring.close()


async def a_database(folder: Path) -> Path:
    path = folder / "events.db"
    session = SQLiteSession("session", path)
    await session.add_items([{"role": "user", "content": "a"}])
    session.close()
    return path


# -- Purging, and maintenance of a whole store ----------------------------------------------------


def sealed_long_ago(net: Net) -> Any:
    """The sentinel text under the sentinel key, for the session "session", from 1973."""
    return pack(net.master().kid, FernetCipher.derive(net.secret, "session").seal(net.item(), 100_000_000))


@case("EncryptedSession", "EncryptedSession.purge_expired", "PurgeRefusedError")
async def purging_one_session(net: Net, folder: Path) -> None:
    store = SQLiteSession("session", folder / "sessions.db")
    try:
        for failure in (None, KeyUnavailableError("down"), KeyNotFoundError("gone")):
            await store.add_items([sealed_long_ago(net)])
            ring = failing_ring(net.master(), failure)
            session = EncryptedSession.wrap(store, ring, ttl=60, purge_on_add=5)
            if isinstance(failure, KeyUnavailableError):
                with net.raises(KeyUnavailableError):
                    await session.purge_expired()
                await session._purge_head()
            else:
                await session.purge_expired()
            net.see(session)
            ring.close()
    finally:
        store.close()
    plain = PlainSession("session", [json.dumps(sealed_long_ago(net))])
    ring = failing_ring(net.master())
    with net.raises(PurgeRefusedError):
        await EncryptedSession.wrap(plain, ring, ttl=60).purge_expired()
    with net.raises(TypeError):
        EncryptedSession.wrap(plain, ring, ttl=60, purge_on_add=net.key_text)  # type: ignore[arg-type]  # what is tested
    ring.close()


@case(
    *("open_store", "inventory", "verify", "reencrypt", "encrypt_plaintext", "purge", "discard", "erase"),
    *("Report", "Report.ok", "Report.seen", "InventoryReport", "InventoryReport.ok", "AgeBucket", "Group", "KeyUse"),
    *("VerifyReport", "PurgeReport", "ReencryptReport", "EncryptReport", "DiscardReport", "EraseReport"),
    "EncryptReport.ok",
    *(
        "put_back",
        "PutBackReport",
        "RowFinding",
        "Progress",
        "Progress.rate",
        "Progress.left_s",
        "ReplicaState",
        "Report.replicas_behind",
    ),
)
async def maintenance_of_a_store(net: Net, folder: Path) -> None:
    session = SQLiteSession("session", folder / "sessions.db")
    odd: list[Any] = [net.item(), {**sealed_long_ago(net), "kid": "hkdf-v1"}, {"__enc__": net.text.text}]
    await session.add_items([sealed_long_ago(net), *odd])
    session.close()
    told: list[maintenance.Progress] = []
    for failure in (KeyUnavailableError("down", retry_after_s=0.0), KeyAccessDeniedError("no"), None):
        ring = failing_ring(net.master(), failure)
        more: dict[str, Any] = {"upstream_key": net.key_text, "progress": told.append}
        async with maintenance.open_store(f"sqlite:///{folder}/sessions.db") as store:
            net.see(store)
            discard = functools.partial(maintenance.discard, store, ring, outcome="malformed", **more)
            for report in (
                await maintenance.inventory(store),
                await maintenance.inventory(store, ring, ttl=60, **more),
                await maintenance.verify(store, ring, **more),
                await maintenance.encrypt_plaintext(store, ring, **more),
                await maintenance.reencrypt(store, ring, **more),
                await discard(export=None, dry_run=True),
                await discard(export=folder / f"{type(failure).__name__}.jsonl"),
                await maintenance.purge(store, ring, ttl=60, **more),
            ):
                net.see(report)
                net.see([report.ok, report.seen, *report.findings, report.replicas_behind])
        ring.close()
    for progress in told:
        net.see([progress, progress.rate, progress.left_s])
    net.see(maintenance.ReplicaState("the standby node-2", replayed=False, missing=5, to_do="Let it catch up"))
    async with maintenance.open_store(f"sqlite:///{folder}/sessions.db") as store:
        net.see(await maintenance.erase(store, ["session"], export=folder / "erased.jsonl"))
        ring = failing_ring(net.master())
        net.see(await maintenance.put_back(store, ring, export=folder / "erased.jsonl", dry_run=True))
        ring.close()


@case("StoreConfigError", "StoreError", "StoreUnavailableError", "StoreTimeoutError")
async def errors_of_stores(net: Net, folder: Path) -> None:
    with net.raises(StoreConfigError):
        maintenance.open_store(f"redis://:{net.text.text}@host:6379/0")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SENTINEL_STORE", f"redis://user:{net.text.text}@127.0.0.1:1/0")
        with net.raises(StoreUnavailableError):
            async with maintenance.open_store("env:SENTINEL_STORE"):
                pass
    with net.raises(StoreError):
        async with maintenance.open_store(f"sqlite:///{folder}/none.db"):
            pass
    net.see(StoreTimeoutError("the store at host:6379 did not answer within 5 s", in_doubt=True))


@case("open_store", "inventory", "verify", "reencrypt", "encrypt_plaintext", "purge", "discard", "erase")
async def wrong_arguments_for_maintenance(net: Net, folder: Path) -> None:
    secret = net.text.text
    store = await stores_that_cannot_be_opened(net, folder)
    ring = KeyRing(StaticKeyProvider(net.master()))
    for operation in (maintenance.inventory, maintenance.verify, maintenance.reencrypt, maintenance.encrypt_plaintext):
        run: Any = operation
        for arguments in ((secret, ring), (store, secret), (store, net.master())):
            with net.raises(TypeError):
                await run(*arguments)
        for wrong in ({"upstream_key": net.secret}, {"batch": secret}, {"progress": secret}, {"stop": secret}):
            with net.raises(TypeError):
                await run(store, ring, **wrong)
        with net.raises(ValueError):
            await run(store, ring, upstream_key=f"vault-kv:{secret}")
    wrong_types: list[tuple[Any, dict[str, Any]]] = [
        (maintenance.purge, {"ttl": secret}),
        (maintenance.inventory, {"replica_wait_s": secret}),
        (maintenance.discard, {"outcome": "malformed", "export": net.secret}),
        (maintenance.discard, {"outcome": net.secret, "export": None}),
    ]
    for run, options in wrong_types:
        with net.raises(TypeError):
            await run(store, ring, **options)
    with net.raises(ValueError):
        await maintenance.discard(store, ring, outcome=secret, export=None)
    with net.raises(ValueError):
        await maintenance.reencrypt(store, ring, from_kid=secret + "!")
    for sessions in (secret, [net.secret], 5):
        with net.raises(TypeError):
            await maintenance.erase(store, sessions)  # type: ignore[arg-type]  # what is tested
    ring.close()


async def stores_that_cannot_be_opened(net: Net, folder: Path) -> WholeStore:
    """Each is tried; the last one could be, were its file there."""
    secret = net.text.text
    for url in (
        f"postgresql://user:{secret}@host/name",
        f"redis://:{secret}@host:6379/0",
        f"rediss://host/0?password={secret}",
        f"sqlite+x://user:{secret}@host/a.db",
        f"mysql://user:{secret}@host/name",
        f"env:user:{secret}",
    ):
        with net.raises(ValueError):
            maintenance.open_store(url)
    with pytest.MonkeyPatch.context() as environment:
        for content in (f"nothing {secret}", f"mysql://user:{secret}@host/name", f"redis:/{secret}"):
            environment.setenv("SENTINEL_STORE", content)
            with net.raises(ValueError):
                maintenance.open_store("env:SENTINEL_STORE")
        environment.setenv("SENTINEL_STORE", f"redis://user:{secret}@127.0.0.1:1/0")
        down = maintenance.open_store("env:SENTINEL_STORE")
    missing = maintenance.open_store(f"sqlite:///{folder}/none.db")
    for store in (down, missing):
        net.see(store)
        with net.raises(EncryptedSessionError):
            async with store:
                pass
    return missing


# -- The matrix -----------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [pytest.param(run, id=run.__name__) for run in CASES])
async def test_nothing_leaks(run: Case, net: Net, tmp_path: Path) -> None:
    stop = observe(net.see)  # every event of every case, too
    try:
        running = run(net, tmp_path)
        if running is not None:
            await running
    finally:
        stop()
    assert net.caught


def public_names(module: ModuleType) -> set[str]:
    """The module's public names, and the public methods and properties of its classes."""
    names: set[str] = set()
    for name in module.__all__:
        value = getattr(module, name)
        names.add(name)
        if inspect.isclass(value):
            names |= {f"{name}.{member}" for member, what in vars(value).items() if is_public_member(member, what)}
    return names


def is_public_member(name: str, what: object) -> bool:
    return not name.startswith("_") and isinstance(what, (type(public_names), classmethod, staticmethod, property))


def test_every_public_name_has_a_case() -> None:
    modules = (encrypted_sessions, encrypted_sessions.audit, maintenance, keyproviders, keyproviders.local)
    public = set().union(*map(public_names, modules))
    assert public - COVERED - REVEALING == set(), "public names without a case in this file"
    assert (COVERED | REVEALING) - public == set(), "cases for names that are not public any more"


# -- The net itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(3))
def test_the_net_catches_a_sentinel_however_it_is_written(before: int, after: int) -> None:
    sentinel = Sentinel(32)
    around = b"x" * before + sentinel.bytes + b"y" * after
    standard = base64.b64encode(around).decode()
    shown = [around.decode(), repr(around), around.hex(), around.hex().upper(), standard, str(list(around))]
    shown += [base64.urlsafe_b64encode(around).decode(), standard.rstrip("="), json.dumps({"a": around.decode()})]
    shown += [f"...{sentinel.text[5:15]}...", f"...{sentinel.bytes.hex()[7:27]}"]
    for form in shown:
        assert sentinel.found_in(form), form
    assert all(core in standard for core in list(base64_cores(sentinel.bytes))[before % 3 : before % 3 + 1])


def test_the_net_catches_nothing_else() -> None:
    assert Sentinel(32).found_in(str(list(range(256))) + Path(__file__).read_text(encoding="utf-8")) is None


def test_the_net_sees_logs_causes_and_local_variables() -> None:
    net = Net()

    def fails() -> None:
        kept = net.key_text
        raise ValueError(len(kept))

    inside = type(fails)(fails.__code__, {**globals(), "__name__": "keyproviders.x"}, "fails", None, fails.__closure__)
    with net.raises(RuntimeError):
        try:
            inside()
        except ValueError:
            raise RuntimeError("later") from None
    assert any("kept in keyproviders.x.fails" in leak for leak in net.leaks())
    quiet = Net()
    quiet.log_record(logging.makeLogRecord({"msg": "%s", "args": (quiet.text.text,), "name": "some.library"}))
    assert "log of some.library" in quiet.leaks()[0]
