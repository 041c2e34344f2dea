"""A real server with TLS and files that is sealed, killed and stopped while it is asked."""

from __future__ import annotations

import pytest

from keyproviders import KeyUnavailableError, ProviderConfigError
from keyproviders.vault import VaultKvKeyProvider


def provider_of(place, **given) -> VaultKvKeyProvider:
    return VaultKvKeyProvider(
        place.path, address=place.server.url, **{"ca_cert": place.server.certificate, "token": place.token(), **given}
    )


def test_tls_with_its_ca(stored_place):
    key = stored_place.write()
    provider = provider_of(stored_place)
    assert provider.active() == key
    provider.close()


def test_tls_without_its_ca_is_a_wrong_setting(stored_place):
    stored_place.write()
    provider = provider_of(stored_place, ca_cert=None)
    with pytest.raises(ProviderConfigError, match=r"certificate was not accepted .* the public CAs"):
        provider.active()
    provider.close()


def test_a_sealed_server_is_unavailable_until_it_is_unsealed(stored_place):
    key = stored_place.write()
    provider = provider_of(stored_place)
    assert provider.active() == key
    stored_place.root.sys.seal()
    with pytest.raises(KeyUnavailableError, match="sealed"):
        provider.active()
    cold = provider_of_login(stored_place)
    with pytest.raises(KeyUnavailableError):
        cold.active()
    stored_place.server.unseal()
    assert provider.active() == key
    provider.close()
    cold.close()


def provider_of_login(place) -> VaultKvKeyProvider:
    return VaultKvKeyProvider(
        place.path,
        address=place.server.url,
        ca_cert=place.server.certificate,
        auth="approle",
        role_id="r",
        secret_id="s",
    )


def test_a_killed_server_is_unavailable_until_it_is_back(stored_place):
    key = stored_place.write()
    provider = provider_of(stored_place)
    assert provider.active() == key
    stored_place.server.kill()
    for _ in range(2):
        with pytest.raises(KeyUnavailableError):
            provider.active()
    stored_place.server.start()
    with pytest.raises(KeyUnavailableError, match="503"):
        provider.active()
    stored_place.server.unseal()
    assert provider.active() == key
    provider.close()


def test_a_server_that_stands_still_is_unavailable_until_it_goes_on(stored_place):
    key = stored_place.write()
    provider = provider_of(stored_place)
    assert provider.active() == key
    stored_place.server.pause()
    with pytest.raises(KeyUnavailableError, match="no answer within 2 s"):
        provider.active()
    stored_place.server.resume()
    assert provider.active() == key
    provider.close()
