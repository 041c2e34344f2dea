"""Versions of a secret in a real server."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

import pytest

from encrypted_sessions_tests.documents import ROOT, blocks
from keyproviders import (
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.vault import VaultKvKeyProvider


def provider_of(place, **given) -> VaultKvKeyProvider:
    if "auth" not in given:
        given["token"] = given.get("token") or place.token()
    return VaultKvKeyProvider(place.path, address=place.server.url, **given)


def test_what_is_written_is_a_key_by_its_version(place):
    first, second = place.write(), place.write()
    provider = provider_of(place)
    assert provider.active() == second
    assert provider.get("1") == first
    created = provider.active().created_at
    assert created is not None
    assert abs(created - datetime.now(timezone.utc)) < timedelta(minutes=5)
    provider.close()


def test_a_deleted_version_may_come_back_and_a_destroyed_one_never(place):
    first, second, third = place.write(), place.write(), place.write()
    provider = provider_of(place)
    place.delete(1)
    with pytest.raises(KeyDisabledError, match=r"version 1 .* was deleted at 20"):
        provider.get("1")
    place.undelete(1)
    assert provider.get("1") == first
    place.destroy(1)
    with pytest.raises(KeyDestroyedError, match=r"version 1 .*destroyed for good"):
        provider.get("1")
    place.delete(2)
    place.destroy(2)
    with pytest.raises(KeyDestroyedError, match="after it was deleted at 20"):
        provider.get("2")
    assert provider.active() == third
    assert second.name == "2"
    provider.close()


def test_the_active_key_is_the_newest_that_is_left(place):
    first, second, third = place.write(), place.write(), place.write()
    provider = provider_of(place)
    place.delete(3)
    assert provider.active() == second
    place.destroy(2)
    assert provider.active() == first
    place.undelete(3)
    assert provider.active() == third
    place.delete(1, 3)
    with pytest.raises(KeyDisabledError, match="versions 1 to 3"):
        provider.active()
    place.destroy(1, 3)
    with pytest.raises(KeyDestroyedError, match="versions 1 to 3"):
        provider.active()
    provider.close()


def test_a_version_that_fell_out_is_not_found(place):
    place.write()
    place.root.secrets.kv.v2.update_metadata(place.path, max_versions=2)
    for _ in range(3):
        place.write()
    provider = provider_of(place)
    with pytest.raises(KeyNotFoundError) as caught:
        provider.get("1")
    assert type(caught.value) is KeyNotFoundError
    assert provider.active().name == "4"
    provider.close()


def test_what_is_not_there_is_told_apart(place):
    provider = provider_of(place)
    with pytest.raises(KeyNotFoundError, match="does not exist"):
        provider.active()
    place.write()
    with pytest.raises(KeyNotFoundError, match="no version 7"):
        provider.get("7")
    provider.close()
    nowhere = VaultKvKeyProvider(place.path, mount="nowhere", address=place.server.url, token="root")
    with pytest.raises(ProviderConfigError, match="'nowhere'"):
        nowhere.active()
    nowhere.close()


def test_a_mount_of_version_1_is_refused_in_words(place):
    mount = place.policy
    place.root.sys.enable_secrets_engine("kv", path=mount, options={"version": "1"})
    provider = VaultKvKeyProvider("x", mount=mount, address=place.server.url, token="root")
    with pytest.raises(ProviderConfigError, match="version 1"):
        provider.active()
    provider.close()
    place.root.sys.disable_secrets_engine(mount)


def test_a_mount_with_a_slash_is_named_when_the_url_splits_it_wrongly(place):
    mount = f"team/{place.policy}"
    place.root.sys.enable_secrets_engine("kv", path=mount, options={"version": "2"})
    url = f"vault-kv:{mount}/x?address={place.server.url}&auth=token"
    provider = VaultKvKeyProvider.from_url(url)
    provider._connection._tokens.login._token = "root"
    with pytest.raises(ProviderConfigError, match=rf"write vault-kv:x\?mount={mount}"):
        provider.active()
    provider.close()
    place.root.sys.disable_secrets_engine(mount)


def test_a_namespace_that_is_not_there_is_a_wrong_setting(place):
    place.write()
    provider = VaultKvKeyProvider(place.path, address=place.server.url, token="root", namespace="nope")
    with pytest.raises((ProviderConfigError, KeyAccessDeniedError)):
        provider.active()
    provider.close()


def ask_often(provider: VaultKvKeyProvider) -> None:
    for _ in range(5):
        provider.active()


def test_a_rate_limit_is_unavailable_with_the_servers_own_wait(place):
    place.write()
    provider = provider_of(place)
    provider.active()
    place.root.adapter.request(
        "post", f"/v1/sys/quotas/rate-limit/{place.policy}", json={"path": "secret/", "rate": 1, "interval": "30s"}
    )
    place.root.adapter.request("post", "/v1/sys/quotas/config", json={"enable_rate_limit_response_headers": True})
    try:
        with pytest.raises(KeyUnavailableError, match="429") as caught:
            ask_often(provider)
    finally:
        place.root.adapter.request("delete", f"/v1/sys/quotas/rate-limit/{place.policy}")
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 30
    provider.close()


def test_exactly_the_policy_of_the_docs_is_enough_and_nothing_less(place):
    key = place.write()
    (policy,) = blocks(ROOT / "docs" / "vault.md", "hcl")
    rule = policy.text.strip().replace("agents/session-key", place.path)
    enough = place.token()
    place.allow(rule)
    provider = provider_of(place, token=enough)
    assert provider.active() == key
    assert provider.get("1") == key
    place.allow(f'path "secret/data/{place.path}" {{ capabilities = [] }}')
    with pytest.raises(KeyAccessDeniedError, match="permission denied") as caught:
        provider.active()
    assert rule in str(caught.value)
    place.allow(rule)
    assert provider.active() == key
    provider.close()


def test_four_threads_at_once(place):
    key = place.write()
    provider = provider_of(place, **place.approle())
    found: list[Key] = []
    threads = [threading.Thread(target=lambda: found.append(provider.active())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [key] * 4
    provider.close()


async def test_a_ring_follows_a_rotation(place):
    first = place.write()
    async with KeyRing(provider_of(place)) as ring:
        assert await ring.active() == first
        second = place.write()
        await ring.refresh()
        assert await ring.active() == second
        assert await ring.get(first.kid) == first
