"""Each way to a token, and a token's whole life, with a real server."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from keyproviders import KeyAccessDeniedError
from keyproviders.vault import VaultKvKeyProvider


def provider_of(place, **given) -> VaultKvKeyProvider:
    return VaultKvKeyProvider(place.path, address=place.server.url, **given)


def token_of(provider: VaultKvKeyProvider):
    return provider._connection._tokens._token


def test_a_token(place, monkeypatch: pytest.MonkeyPatch):
    key = place.write()
    monkeypatch.setenv("VAULT_TOKEN", place.token(ttl="1h"))
    provider = provider_of(place)
    assert provider.active() == key
    assert token_of(provider).renewable
    provider.close()


def test_a_root_token_has_no_end(place):
    key = place.write()
    provider = provider_of(place, token="root")
    assert provider.active() == key
    assert token_of(provider).ends_at == float("inf")
    provider.close()


def test_a_token_without_the_default_policy_cannot_look_at_itself_and_still_reads(place):
    key = place.write()
    provider = provider_of(place, token=place.token(no_default_policy=True))
    assert provider.active() == key
    provider.close()


def test_a_token_file(place, tmp_path: Path):
    key = place.write()
    path = tmp_path / "token"
    path.write_text(place.token())
    provider = provider_of(place, auth="token-file", token_file=path)
    assert provider.active() == key
    place.root.auth.token.revoke(path.read_text())
    with pytest.raises(KeyAccessDeniedError):
        provider.active()
    path.write_text(place.token())
    assert provider.active() == key
    provider.close()


def test_an_approle(place):
    key = place.write()
    provider = provider_of(place, **place.approle())
    assert provider.active() == key
    provider.close()


def test_an_approle_with_a_wrong_secret_id_is_denied_in_the_servers_words(place):
    place.write()
    provider = provider_of(place, **{**place.approle(), "secret_id": "wrong"})
    with pytest.raises(KeyAccessDeniedError, match="invalid role or secret ID"):
        provider.active()
    provider.close()


def test_a_jwt_is_read_anew_at_each_login(place, issuer, tmp_path: Path):
    key = place.write()
    mount = f"jwt-{secrets.token_hex(4)}"
    place.root.sys.enable_auth_method("jwt", path=mount)
    place.root.auth.jwt.configure(jwt_validation_pubkeys=[issuer.public_key], path=mount)
    place.root.auth.jwt.create_role(
        name="agents",
        role_type="jwt",
        allowed_redirect_uris=[],
        bound_audiences=["vault"],
        user_claim="sub",
        token_policies=[place.allow()],
        path=mount,
    )
    path = tmp_path / "jwt"
    given = {"auth": "jwt", "auth_mount": mount, "role": "agents", "jwt_file": path}
    provider = provider_of(place, **given)
    for token, words in (
        (issuer.token(sub="agents", life_s=-600), "expired"),
        (issuer.token(sub="agents", aud="others"), "audience"),
    ):
        path.write_text(token)
        with pytest.raises(KeyAccessDeniedError, match=words) as caught:
            provider.active()
        assert token not in str(caught.value)
    path.write_text(issuer.token(sub="agents"))
    assert provider.active() == key
    provider.close()
    with pytest.raises(KeyAccessDeniedError, match="could not be found"):
        provider_of(place, **{**given, "role": "none"}).active()


def test_a_service_account_of_kubernetes(place, issuer, reviewer, some_ca: str, tmp_path: Path):
    key = place.write()
    mount = f"kubernetes-{secrets.token_hex(4)}"
    place.root.sys.enable_auth_method("kubernetes", path=mount)
    place.root.auth.kubernetes.configure(
        kubernetes_host=reviewer.url,
        token_reviewer_jwt=issuer.service_account("reviewer"),
        disable_local_ca_jwt=True,
        kubernetes_ca_cert=some_ca,
        mount_point=mount,
    )
    place.root.auth.kubernetes.create_role(
        name="agents",
        bound_service_account_names=["agents"],
        bound_service_account_namespaces=["prod"],
        policies=[place.allow()],
        mount_point=mount,
    )
    path = tmp_path / "service-account"
    path.write_text(issuer.service_account("agents"))
    given = {"auth": "kubernetes", "auth_mount": mount, "role": "agents", "jwt_file": path}
    provider = provider_of(place, **given)
    assert provider.active() == key
    provider.close()
    path.write_text(issuer.service_account("somebody-else"))
    with pytest.raises(KeyAccessDeniedError, match="not authorized"):
        provider_of(place, **given).active()


def test_an_identity_of_aws(place, monkeypatch: pytest.MonkeyPatch):
    """Where the server has that login: STS is moto's, which the server asks in our place."""
    import boto3
    import hvac
    from moto.server import ThreadedMotoServer

    key = place.write()
    mount = f"aws-{secrets.token_hex(4)}"
    try:
        place.root.sys.enable_auth_method("aws", path=mount)
    except hvac.exceptions.VaultError as error:
        if "plugin not found in the catalog" not in str(error):
            raise
        pytest.skip(f"this server has no aws login: {error.errors}")
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        sts = f"http://{host}:{port}"
        for name, value in (("ACCESS_KEY_ID", "AKIDEXAMPLE"), ("SECRET_ACCESS_KEY", "S3cret"), ("REGION", "eu-west-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        who = boto3.client("sts", endpoint_url=sts, region_name="eu-west-1").get_caller_identity()
        place.root.adapter.post(
            f"/v1/auth/{mount}/config/client",
            json={
                "access_key": "AKIDEXAMPLE",
                "secret_key": "S3cret",
                "sts_endpoint": sts,
                "sts_region": "eu-west-1",
                "iam_endpoint": sts,
                "iam_server_id_header_value": "vault.example",
            },
        )
        place.root.adapter.post(
            f"/v1/auth/{mount}/role/agents",
            json={
                "auth_type": "iam",
                "bound_iam_principal_arn": [who["Arn"]],
                "resolve_aws_unique_ids": False,
                "token_policies": [place.allow()],
            },
        )
        given = {"auth": "aws", "auth_mount": mount, "role": "agents", "aws_region": "eu-west-1"}
        provider = provider_of(place, aws_server_id="vault.example", **given)
        assert provider.active() == key
        provider.close()
        with pytest.raises(KeyAccessDeniedError, match=r"other\.example"):
            provider_of(place, aws_server_id="other.example", **given).active()
    finally:
        moto.stop()


def test_a_ready_client(place):
    key = place.write()
    client = place.server.client(place.token())
    provider = VaultKvKeyProvider(place.path, client=client)
    assert provider.active() == key
    client.adapter.close()


def test_a_token_is_renewed_up_to_its_maximum_and_replaced_beyond_it(place):
    """A life of 2 s, at most 5 s: read all the while, over more than two such lives."""
    key = place.write()
    provider = provider_of(place, **place.approle(token_ttl="2s", token_max_ttl="5s"))
    tokens: list[str] = []
    ends: list[float] = []
    while len(set(tokens)) < 3:
        assert provider.active() == key
        tokens.append(token_of(provider).value)
        ends.append(token_of(provider).ends_at)
        assert len(tokens) < 600
        time.sleep(0.1)
    first = [end for token, end in zip(tokens, ends, strict=True) if token == tokens[0]]
    assert len(set(first)) > 1, "it was never renewed"
    provider.close()


def test_a_batch_token_is_replaced_in_time(place):
    key = place.write()
    provider = provider_of(place, **place.approle(token_ttl="2s", token_max_ttl="5s", token_type="batch"))
    tokens = set()
    while len(tokens) < 3:
        assert provider.active() == key
        tokens.add(token_of(provider).value)
        time.sleep(0.1)
    provider.close()


def test_a_revoked_token_is_replaced_by_a_new_login(place):
    key = place.write()
    provider = provider_of(place, **place.approle())
    provider.active()
    first = token_of(provider).value
    place.root.auth.token.revoke(first)
    assert provider.active() == key
    assert token_of(provider).value != first
    provider.close()


def test_a_revoked_token_that_nothing_replaces_is_denied(place):
    place.write()
    token = place.token()
    provider = provider_of(place, token=token)
    provider.active()
    place.root.auth.token.revoke(token)
    with pytest.raises(KeyAccessDeniedError):
        provider.active()
    provider.close()


def test_a_secret_id_that_is_gone_is_denied_at_the_next_login(place):
    place.write()
    given = place.approle(secret_id_num_uses=1)
    provider = provider_of(place, **given)
    provider.active()
    place.root.auth.token.revoke(token_of(provider).value)
    with pytest.raises(KeyAccessDeniedError, match="secret"):
        provider.active()
    provider.close()
