"""The public names as a type checker sees them: checked by mypy and pyright, never run.

What an application writes must pass, and what it must not write is marked with the error that has to come: an
`ignore` that is not needed is an error of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from agents import Agent, Runner, SQLiteSession
from agents.memory import Session
from typing_extensions import assert_type

from encrypted_sessions import (
    EncryptedSession,
    EncryptedSessionError,
    Finding,
    History,
    ItemCount,
    Key,
    KeyProviderError,
    KeyRing,
    KeyRings,
    KeysetEvent,
    KeyUnavailableError,
    RunEvent,
    SessionEvent,
    StoreTimeoutError,
    UnreadableItemsError,
    audit_context,
    observe,
)
from encrypted_sessions.audit import AuditFailedError, AuditLog
from encrypted_sessions.maintenance import (
    DiscardReport,
    EncryptReport,
    EraseReport,
    InventoryReport,
    PurgeReport,
    PutBackReport,
    ReencryptReport,
    ReplicaState,
    Report,
    VerifyReport,
    discard,
    encrypt_plaintext,
    erase,
    inventory,
    open_store,
    purge,
    put_back,
    reencrypt,
    verify,
)
from keyproviders import (
    CachePolicy,
    KeyEvent,
    KeyNotFoundError,
    KeyProvider,
    RetryPolicy,
    RingHealth,
    decode_key_text,
    known_schemes,
    looks_like_provider_url,
    open_keyset,
    open_provider,
    parse_kid,
)
from keyproviders.aws import AwsKmsKeyWrapper, AwsSecretsManagerKeyProvider
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetManager, KeyWrapper, SqlKeysetStore
from keyproviders.local import EnvKeyProvider, FileKeyProvider, StaticKeyProvider
from keyproviders.vault import VaultKvKeyProvider, VaultTransitKeyWrapper


class Shelf:
    """A provider by structure: nothing to inherit."""

    def active(self) -> Key:
        return Key.generate("2026-11")

    def get(self, name: str) -> Key:
        raise KeyNotFoundError(f"no {name}")


async def a_session_is_one_of_the_sdk(store: SQLiteSession, keys: KeyRing) -> None:
    wrapped = assert_type(EncryptedSession.wrap(store, keys, ttl=86_400), EncryptedSession)
    session: Session = wrapped
    await Runner.run(Agent("a"), "hello", session=wrapped)
    items = await session.get_items(limit=3)
    await wrapped.add_items(items)
    await wrapped.add_items([{"role": "user", "content": "hello"}])
    await wrapped.run_compaction({"force": True})
    popped = await wrapped.pop_item()
    assert popped is None or popped
    history = assert_type(await wrapped.read(), History)
    assert_type(history.outcomes, Mapping[str, int])
    assert_type(history.findings, tuple[Finding, ...])
    assert_type(await wrapped.purge_expired(), int)
    assert_type(wrapped.ttl, int | None)
    await wrapped.clear_session()
    assert wrapped.db_path  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    EncryptedSession.wrap(store, keys)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    EncryptedSession("id", store, "key", on_unreadable="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def errors_carry_what_a_caller_needs(error: EncryptedSessionError | KeyProviderError) -> None:
    if isinstance(error, UnreadableItemsError):
        assert_type(error.outcomes, dict[str, int])
        assert_type(error.findings, tuple[Finding, ...])
    if isinstance(error, StoreTimeoutError):
        assert_type(error.in_doubt, bool)
    if isinstance(error, KeyUnavailableError):
        retry_after_s: float | None = error.retry_after_s
        assert retry_after_s is None or retry_after_s >= 0


def a_hook_is_a_plain_function(store: SQLiteSession, keys: KeyRing) -> None:
    def heard(event: object) -> None:
        if isinstance(event, SessionEvent):
            assert_type(event.uses, tuple[ItemCount, ...])
            assert_type(event.removed, int | None)
            assert_type(event.context, Mapping[str, str])
        elif isinstance(event, RunEvent):
            assert_type(event.report, Report | None)
        elif isinstance(event, KeysetEvent):
            assert_type(event.phase, Literal["start", "end"])

    stop = observe(heard)
    with audit_context(actor="u-17", tenant="acme"):
        EncryptedSession.wrap(store, keys, ttl=60, on_event=heard)
    stop()
    audit_context(actor=17)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    observe("a file")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def an_audit_log_is_a_hook(store: SQLiteSession, keys: KeyRing, error: AuditFailedError) -> None:
    with AuditLog("folder", session_ids="hashed", pseudonym_keys=keys, on_failure="refuse") as log:
        assert_type(log, AuditLog)
        observe(log)()
        EncryptedSession.wrap(store, keys, ttl=60, on_event=log)
        assert_type(log.lines_lost, int)
    assert_type(error.in_doubt, bool)
    AuditLog("folder", sync="hourly")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_ring_takes_any_provider(also: KeyProvider) -> None:
    def heard(event: KeyEvent) -> None:
        assert_type(event.kid, str | None)

    ring = KeyRing(
        Shelf(),
        also_read=[also, "env:OLD"],
        cache=CachePolicy(fresh_s=60.0),
        retry=RetryPolicy(attempts=2),
        on_event=heard,
    )
    async with ring as keys:
        assert_type(keys, KeyRing)
        assert_type(await keys.active(), Key)
        assert_type(await keys.get("a~12345678"), Key)
        assert_type(keys.active_sync(), Key)
        assert_type(keys.health(), RingHealth)
    assert_type(KeyRing.from_url("env:SESSION_KEYS"), KeyRing)
    assert_type(KeyRing.ephemeral(), KeyRing)
    assert_type(KeyRing.from_url("env:SESSION_KEYS", name="tenant").health().as_dict(), dict[str, Any])
    KeyRing("env:SESSION_KEYS")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_tenants_ring_is_given_by_a_function_of_either_kind(store: SQLiteSession, ring: KeyRing) -> None:
    async def looked_up(tenant: str) -> KeyRing | None:
        return ring if tenant else None

    KeyRings(looked_up)
    async with KeyRings(lambda tenant: f"env:{tenant}", max_rings=5, idle_s=60) as keys:
        assert_type(await keys.get("a"), KeyRing)
        assert_type(await keys.wrap(store, "a", ttl=None, on_unreadable="skip"), EncryptedSession)
        assert_type(keys.health(), dict[str, RingHealth])


def providers_open_by_class_and_by_url() -> None:
    providers: list[KeyProvider] = [
        StaticKeyProvider(Key.generate()),
        EnvKeyProvider("SESSION_KEYS"),
        FileKeyProvider("/etc/keys"),
        VaultKvKeyProvider("agents", address="https://vault.example"),
        AwsSecretsManagerKeyProvider("agents", region="eu-central-1"),
        Shelf(),
    ]
    wrappers: list[KeyWrapper] = [AwsKmsKeyWrapper("alias/agents"), VaultTransitKeyWrapper("agents")]
    providers.append(KeysetKeyProvider(wrappers[0], FileKeysetStore("/etc/keyset.json")))
    KeysetManager(wrappers[1], SqlKeysetStore("sqlite:///keysets.db"))
    assert_type(open_provider("env:SESSION_KEYS"), KeyProvider)
    assert_type(open_keyset("aws-kms:alias/agents?keyset=file:/k.json"), KeysetManager)
    assert_type(known_schemes(), tuple[str, ...])
    assert_type(looks_like_provider_url("env:X"), bool)
    assert_type(parse_kid("a~12345678"), tuple[str | None, str] | None)
    assert_type(decode_key_text("..."), bytes)


async def maintenance_reports_are_of_their_command(keys: KeyRing) -> None:
    async with open_store("sqlite:///agents.db") as store:
        found = assert_type(await inventory(store, keys, ttl=600), InventoryReport)
        assert_type(found.conclusion, str)
        assert_type(found.ok, bool)
        assert_type(found.replicas_behind, tuple[ReplicaState, ...])
        assert_type(found.other_keys, Mapping[str, int])
        assert_type(await verify(store, keys), VerifyReport)
        assert_type(await verify(store, [keys, keys], kids=["2026-05~1f0a9c3e"]), VerifyReport)
        assert_type(await reencrypt(store, keys), ReencryptReport)
        await reencrypt(store, keys, suite=2, ttl=None, realm=lambda session_id: session_id.partition("/")[0])
        await reencrypt(store, keys, suite=2, ttl=86_400, realm=["one", "two"])
        assert_type(await encrypt_plaintext(store, keys), EncryptReport)
        assert_type(await purge(store, keys, ttl=600), PurgeReport)
        assert_type(await discard(store, keys, outcome="malformed", export="gone.jsonl"), DiscardReport)
        assert_type(await erase(store, ["user-123"]), EraseReport)
        assert_type(await put_back(store, keys, export="gone.jsonl"), PutBackReport)
