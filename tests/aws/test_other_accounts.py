"""A secret of another account: named by its whole ARN, read with a role there or with leave from there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from keyproviders import Key, KeyNotFoundError, KeyRing
from keyproviders.aws import AwsSecretsManagerKeyProvider

OTHER, THERE = "210987654321", "eu-west-3"
ROLE = f"arn:aws:iam::{OTHER}:role/keys"


@pytest.fixture
def secret_there(_moto: tuple[str, int]) -> Iterator[tuple[str, Key]]:
    """The ARN of a secret in another account and another region, and its key."""
    endpoint = f"http://{_moto[0]}:{_moto[1]}"
    here: dict[str, Any] = {"endpoint_url": endpoint, "region_name": THERE}
    sts = boto3.client("sts", **here)
    role = sts.assume_role(RoleArn=ROLE, RoleSessionName="writer")["Credentials"]
    client = boto3.client(
        "secretsmanager",
        aws_access_key_id=role["AccessKeyId"],
        aws_secret_access_key=role["SecretAccessKey"],
        aws_session_token=role["SessionToken"],
        **here,
    )
    key = Key.generate()
    made = client.create_secret(Name="prod/agents/shared-key", SecretString=key.reveal_base64())
    yield made["ARN"], Key(made["VersionId"], key.secret)
    client.delete_secret(SecretId=made["ARN"], ForceDeleteWithoutRecovery=True)
    for one in (sts, client):
        one.close()


def scope_of(asked: Any) -> str:
    """The region and the service that a request was signed for."""
    scope: str = asked.headers["Authorization"].partition("Credential=")[2].partition(",")[0]
    return "/".join(scope.split("/")[2:4])


async def test_a_role_of_the_other_account_reads_its_secret_by_arn(
    proxy, secret_there: tuple[str, Key], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    arn, key = secret_there
    assert f":{THERE}:{OTHER}:" in arn
    (tmp_path / "config").write_text(
        "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = x\n"
        f"[profile there]\nrole_arn = {ROLE}\nsource_profile = base\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    async with KeyRing.from_url(f"aws-secretsmanager:{arn}?profile=there") as ring:
        assert await ring.active() == key
        assert await ring.get(key.kid) == key
    asked = [one for one in proxy.asked if one.target == "GetSecretValue"]
    assert {one.body["SecretId"] for one in asked} == {arn}
    # AWS_REGION says where this process is; the secret is elsewhere.
    assert {scope_of(one) for one in asked} == {f"{THERE}/secretsmanager"}


def test_an_identity_of_this_account_asks_for_it_by_the_arn_as_it_is(proxy, secret_there: tuple[str, Key]):
    """What the other account then allows, its resource policy says, and moto has none: it answers as for no secret."""
    arn, key = secret_there
    provider = AwsSecretsManagerKeyProvider(arn, endpoint_url=proxy.url)
    with pytest.raises(KeyNotFoundError, match=arn):
        provider.active()
    with pytest.raises(KeyNotFoundError):
        provider.get(str(key.name))
    assert [one.body for one in proxy.asked] == [
        {"SecretId": arn, "VersionStage": "AWSCURRENT"},
        {"SecretId": arn, "VersionId": key.name},
    ]
    assert {scope_of(one) for one in proxy.asked} == {f"{THERE}/secretsmanager"}
    provider.close()


def test_an_endpoint_of_aws_is_that_of_the_arns_region():
    """Without an endpoint of our own: nothing is sent, for the client is only made."""
    for partition, region, end in (
        ("aws", THERE, "amazonaws.com"),
        ("aws-cn", "cn-north-1", "amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "amazonaws.com"),
    ):
        provider = AwsSecretsManagerKeyProvider(f"arn:{partition}:secretsmanager:{region}:{OTHER}:secret:x-AbCdEf")
        assert provider._connection.ready().meta.endpoint_url == f"https://secretsmanager.{region}.{end}"
        provider.close()
