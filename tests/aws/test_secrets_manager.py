"""Keys in Secrets Manager: against moto's server, over HTTP, with faults that moto does not have."""

from __future__ import annotations

import json
import socket
import threading
import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest

from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
)
from keyproviders.aws import AwsSecretsManagerKeyProvider, sdk


@pytest.fixture
def provider(proxy, secret):
    made = AwsSecretsManagerKeyProvider(secret.name, endpoint_url=proxy.url)
    yield made
    made.close()


def failure(provider: AwsSecretsManagerKeyProvider) -> KeyProviderError:
    with pytest.raises(KeyProviderError) as caught:
        provider.active()
    return caught.value


# Versions.


def test_the_current_version_is_active_and_each_is_found_by_its_id(proxy, secret, provider):
    first, second = secret.write_key(), secret.write_key()
    assert provider.active() == second
    assert provider.get(first.name) == first
    created = provider.active().created_at
    assert created is not None
    assert created.tzinfo is timezone.utc
    assert abs(created - datetime.now(timezone.utc)) < timedelta(minutes=5)


def test_each_call_is_one_request_and_none_describes_the_secret(proxy, secret, provider):
    key = secret.write_key()
    del proxy.asked[:]
    provider.active()
    provider.get(key.name)
    assert [(one.target, one.body) for one in proxy.asked] == [
        ("GetSecretValue", {"SecretId": secret.name, "VersionStage": "AWSCURRENT"}),
        ("GetSecretValue", {"SecretId": secret.name, "VersionId": key.name}),
    ]


def test_a_pending_version_is_never_active(secret, provider):
    current = secret.write_key()
    pending = Key.generate()
    secret.client.put_secret_value(
        SecretId=secret.name, SecretString=pending.reveal_base64(), VersionStages=["AWSPENDING"]
    )
    assert provider.active() == current


def test_an_arn_names_the_secret_and_its_region(proxy, secret, monkeypatch: pytest.MonkeyPatch):
    key = secret.write_key()
    monkeypatch.delenv("AWS_REGION")
    by_arn = AwsSecretsManagerKeyProvider.from_url(f"aws-secretsmanager:{secret.arn}?endpoint_url={proxy.url}")
    assert by_arn.active() == key
    assert "/eu-central-1/secretsmanager/" in proxy.asked[-1].headers["Authorization"]
    by_arn.close()


def test_a_missing_secret_and_a_missing_version_are_not_found(secret, provider):
    error = failure(provider)
    assert type(error) is KeyNotFoundError
    assert secret.name in str(error)
    secret.write_key()
    with pytest.raises(KeyNotFoundError):
        provider.get("0" * 32)


@pytest.mark.parametrize("name", ["", "1", "x" * 31, "x" * 65, "a" * 31 + "/", "é" * 40, "AWSPENDING"])
def test_a_name_that_is_no_version_id_is_not_found_without_a_call(proxy, provider, name: str):
    with pytest.raises(KeyNotFoundError, match="was not asked"):
        provider.get(name)
    assert proxy.asked == []


def test_a_secret_that_is_scheduled_for_deletion_is_disabled_and_can_come_back(secret, provider):
    key = secret.write_key()
    secret.client.delete_secret(SecretId=secret.name)
    error = failure(provider)
    assert type(error) is KeyDisabledError
    assert "restore-secret" in str(error)
    secret.client.restore_secret(SecretId=secret.name)
    assert provider.active() == key


@pytest.mark.parametrize(
    "message",
    [
        "You can't perform this operation on the secret because it was marked for deletion.",
        "You tried to perform the operation on a secret that's currently marked deleted.",
    ],
)
def test_the_words_of_aws_for_a_secret_to_be_deleted_are_known(proxy, secret, provider, fault, message: str):
    secret.write_key()
    proxy.faults.append(fault(400, "InvalidRequestException", message))
    assert type(failure(provider)) is KeyDisabledError


# What a secret may hold.

KEY = Key(None, bytes(range(32)))  # the ids of tests hold it, so it is the same in every process
TEXT = KEY.reveal_base64()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"SecretString": TEXT}, None),
        ({"SecretString": f"  {TEXT.rstrip('=')}\n"}, None),
        ({"SecretString": json.dumps({"key": TEXT})}, None),
        ({"SecretString": json.dumps({"key": TEXT, "note": "x"})}, None),
        ({"SecretString": json.dumps({"anything": TEXT})}, None),
        ({"SecretString": json.dumps({"a": "x", "b": TEXT})}, "b"),
        ({"SecretBinary": KEY.secret}, None),
        ({"SecretBinary": TEXT.encode()}, None),
        ({"SecretBinary": json.dumps({"b": TEXT, "c": 1}).encode()}, "b"),
    ],
)
def test_a_key_is_text_a_field_of_json_or_bytes(proxy, secret, value: dict[str, Any], field: str | None):
    secret.write(**value)
    provider = AwsSecretsManagerKeyProvider(secret.name, endpoint_url=proxy.url, field=field)
    assert provider.active().secret == KEY.secret
    provider.close()


SECRET = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({"SecretString": SECRET}, None, r"\(28 characters\) is not a key"),
        ({"SecretString": TEXT}, "key", "not a JSON object, so it has no field 'key'"),
        ({"SecretString": "{" + SECRET}, None, "29 characters are not a JSON object"),
        ({"SecretString": json.dumps([SECRET])}, "key", "not a JSON object"),
        ({"SecretString": json.dumps({"a": SECRET, "b": 1})}, None, "no field 'key', and more than one field"),
        ({"SecretString": json.dumps({"key": SECRET})}, "other", "no field 'other'; it has 'key'"),
        ({"SecretString": json.dumps({"key": 5})}, None, "it holds a number"),
        ({"SecretString": "{}"}, None, "no fields"),
        ({"SecretBinary": b"\xff" * 31}, None, "its 31 bytes are neither"),
        ({"SecretBinary": SECRET.encode()}, None, r"\(28 characters\) is not a key"),
    ],
)
def test_a_secret_that_is_no_key_is_told_by_its_length(proxy, secret, value, field, words: str):
    secret.write(**value)
    provider = AwsSecretsManagerKeyProvider(secret.name, endpoint_url=proxy.url, field=field)
    with pytest.raises(InvalidKeyError, match=words) as caught:
        provider.active()
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert SECRET not in shown.replace(repr(value), "")
    provider.close()


def test_an_empty_secret_is_no_key(proxy, secret, provider, fault):
    answer = {"Name": secret.name, "VersionId": "v" * 36, "SecretString": ""}
    for body, words in ((answer, "it is empty"), ({"Name": "x", "VersionId": "v" * 36}, "it is empty")):
        proxy.faults.append(fault(200, body=json.dumps(body).encode()))
        with pytest.raises(InvalidKeyError, match=words):
            provider.active()


def test_a_version_id_that_cannot_be_a_name_is_told(proxy, provider, fault):
    answer = {"Name": "x", "VersionId": "v/" * 20, "SecretString": TEXT}
    proxy.faults.append(fault(200, body=json.dumps(answer).encode()))
    with pytest.raises(InvalidKeyError, match="cannot be a key's name"):
        provider.active()


# Failures.

TRANSIENT = [
    ("ThrottlingException", 400),
    ("Throttling", 400),
    ("TooManyRequestsException", 429),
    ("RequestLimitExceeded", 503),
    ("RequestTimeout", 408),
    ("RequestTimeoutException", 400),
    ("InternalServiceError", 500),
    ("InternalServiceErrorException", 500),
    ("Anything", 500),
    ("ServiceUnavailable", 503),
    ("", 502),
    ("", 504),
]


@pytest.mark.parametrize(("code", "status"), TRANSIENT)
def test_what_passes_is_unavailable_and_botocore_does_not_repeat_it(
    proxy, secret, provider, fault, code: str, status: int
):
    secret.write_key()
    proxy.faults.append(fault(status, code))
    error = failure(provider)
    assert type(error) is KeyUnavailableError
    assert code in str(error)
    assert len(proxy.asked) == 1


def test_the_ring_is_the_one_that_repeats(proxy, secret, provider, fault):
    key = secret.write_key()
    proxy.faults += [fault(400, "ThrottlingException"), fault(500, "InternalServiceError")]
    ring = KeyRing(provider, retry=RetryPolicy(wait_min_s=0.001, wait_max_s=0.002))
    assert ring.active_sync() == key
    ring.close()


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "AccessDenied",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "InvalidClientTokenId",
        "MissingAuthenticationTokenException",
        "IncompleteSignature",
    ],
)
def test_a_denial_is_denied_and_never_repeated(proxy, provider, fault, code: str):
    proxy.faults.append(fault(400, code, "User: x is not authorized to perform: secretsmanager:GetSecretValue"))
    error = failure(provider)
    assert type(error) is KeyAccessDeniedError
    assert "is not authorized to perform" in str(error)
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "code",
    [
        "DecryptionFailure",
        "InvalidParameterException",
        "ValidationException",
        "InvalidRequestException",
        "SomethingNew",
    ],
)
def test_a_wrong_setting_is_never_repeated_and_shows_the_code(proxy, provider, fault, code: str):
    proxy.faults.append(fault(400, code))
    error = failure(provider)
    assert type(error) is ProviderConfigError
    assert code in str(error)
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ExpiredToken"])
def test_expired_credentials_are_looked_for_once_more(proxy, secret, provider, fault, monkeypatch, code: str):
    key = secret.write_key()
    provider.active()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEWER")
    del proxy.asked[:]
    proxy.faults.append(fault(400, code, "The security token included in the request is expired"))
    assert provider.active() == key
    assert ["AKIDNEWER" in one.headers["Authorization"] for one in proxy.asked] == [False, True]


def test_credentials_that_stay_expired_are_denied(proxy, secret, provider, fault):
    secret.write_key()
    proxy.faults += [fault(400, "ExpiredTokenException")] * 2
    with pytest.raises(KeyAccessDeniedError, match="ExpiredTokenException"):
        provider.active()
    assert len(proxy.asked) == 2


def test_nobody_listens(secret):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    provider = AwsSecretsManagerKeyProvider(secret.name, endpoint_url=url)
    error = failure(provider)
    assert type(error) is KeyUnavailableError
    assert "EndpointConnectionError" in str(error)
    assert error.__cause__ is error.__context__ is None
    provider.close()


def test_the_connection_breaks_off(proxy, provider, fault):
    proxy.faults.append(fault(breaks=True))
    assert type(failure(provider)) is KeyUnavailableError
    assert len(proxy.asked) == 1


def test_no_answer_within_the_time(proxy, secret, fault, monkeypatch):
    monkeypatch.setattr(sdk, "_READ_TIMEOUT_S", 0.05)
    provider = AwsSecretsManagerKeyProvider(secret.name, endpoint_url=proxy.url)
    go_on = threading.Event()
    proxy.faults.append(fault(waits=go_on, code="Late"))
    try:
        error = failure(provider)
    finally:
        go_on.set()
    assert type(error) is KeyUnavailableError
    assert "no answer within 0.05 s" in str(error)
    assert len(proxy.asked) == 1
    provider.close()


def test_one_second_to_connect_and_two_to_answer_and_nothing_is_repeated(provider):
    config = provider._connection.ready().meta.config
    assert (config.connect_timeout, config.read_timeout) == (1.0, 2.0)
    assert config.retries["total_max_attempts"] == 1


def test_the_inner_client_for_a_role_has_the_same_limits(proxy, secret, fault, monkeypatch, tmp_path: Path):
    """The chain asks STS for the credentials of a role, and STS hangs."""
    monkeypatch.setattr(sdk, "_READ_TIMEOUT_S", 0.05)
    (tmp_path / "config").write_text(
        "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = x\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/agents\nsource_profile = base\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", proxy.url)
    provider = AwsSecretsManagerKeyProvider("x", endpoint_url=proxy.url, profile="role")
    go_on = threading.Event()
    proxy.faults.append(fault(waits=go_on, status=500, code="Late"))
    try:
        error = failure(provider)
    finally:
        go_on.set()
    assert type(error) is KeyUnavailableError
    assert "no answer within 0.05 s" in str(error)
    assert len(proxy.asked) == 1
    assert "Action=AssumeRole" in proxy.asked[0].body
    provider.close()


def test_a_role_of_the_chain_is_assumed(proxy, secret, monkeypatch, tmp_path: Path):
    key = secret.write_key()
    (tmp_path / "config").write_text(
        "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = x\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/agents\nsource_profile = base\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    provider = AwsSecretsManagerKeyProvider(secret.name, profile="role")
    assert provider.active() == key
    assert "X-Amz-Security-Token" in proxy.asked[-1].headers
    provider.close()


def test_no_credentials_is_denied(proxy, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    provider = AwsSecretsManagerKeyProvider("x", endpoint_url=proxy.url)
    error = failure(provider)
    assert type(error) is KeyAccessDeniedError
    assert "found no usable AWS credentials" in str(error)
    provider.close()


def test_no_region_is_a_wrong_setting(monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(ProviderConfigError, match="no AWS region is set"):
        AwsSecretsManagerKeyProvider("x").active()


def test_a_profile_that_is_not_there_is_a_wrong_setting():
    with pytest.raises(ProviderConfigError, match="ProfileNotFound"):
        AwsSecretsManagerKeyProvider("x", profile="none").active()


def test_a_certificate_that_is_not_accepted_is_a_wrong_setting_that_names_the_ca(proxy, monkeypatch, tmp_path: Path):
    import ssl
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    proxy._http.use_tls(context)
    provider = AwsSecretsManagerKeyProvider("x", endpoint_url=proxy.url.replace("http:", "https:"))
    error = failure(provider)
    assert type(error) is ProviderConfigError
    assert "checked against the public CAs" in str(error)
    assert proxy.asked == []
    provider.close()


# URLs and arguments.


def test_a_url_takes_the_options():
    provider = AwsSecretsManagerKeyProvider.from_url(
        "aws-secretsmanager:prod/agents/session-key?field=key&region=eu-west-1&profile=p&endpoint_url=https://e.example"
    )
    assert (provider._field, provider._connection._region, provider._connection._profile) == ("key", "eu-west-1", "p")
    assert provider._connection._endpoint_url == "https://e.example"
    assert provider.place == "aws-secretsmanager:prod/agents/session-key"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("aws-secretsmanager:", "neither a name nor an ARN"),
        ("aws-secretsmanager:two words", "neither a name nor an ARN"),
        (f"aws-secretsmanager:{TEXT}", "a key was given"),
        ("aws-secretsmanager:x?aws_secret_access_key=S3cret", "boto3 finds credentials by itself"),
        ("aws-secretsmanager:x?client=a", "pass it in code"),
        ("aws-secretsmanager:x?allow_insecure=1", "only code can allow this"),
        ("aws-secretsmanager:x?colour=red", "no option 'colour'"),
        ("aws-secretsmanager:x?endpoint_url=http://sm.example", "plain http to another machine"),
        ("aws-secretsmanager:x?endpoint_url=https://me:S3cret@sm.example", "a user or a query"),
        ("aws-secretsmanager://x", "or a host"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_showing_a_secret(url: str, words: str):
    with pytest.raises(ProviderConfigError, match=words) as caught:
        AwsSecretsManagerKeyProvider.from_url(url)
    assert "S3cret" not in str(caught.value)
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize(
    "given", [{"secret_id": 1}, {"field": 1}, {"region": b"x"}, {"allow_insecure": 1}, {"client": 1}]
)
def test_a_wrong_type_is_a_type_error(given: dict[str, Any]):
    with pytest.raises(TypeError):
        AwsSecretsManagerKeyProvider(**{"secret_id": "x", **given})


def test_plain_http_elsewhere_works_only_where_code_allows_it(monkeypatch):
    url = "aws-secretsmanager:x?endpoint_url=http://sm.example"
    with pytest.warns(UserWarning, match="plain http to another machine"):
        AwsSecretsManagerKeyProvider.from_url(url, allow_insecure=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://sm.example")
    with pytest.raises(ProviderConfigError, match="plain http to another machine"):
        AwsSecretsManagerKeyProvider("x").active()


# Ready clients, forks, threads, closing.


def test_a_ready_client_is_used_as_it_is(secret):
    key = secret.write_key()
    provider = AwsSecretsManagerKeyProvider(secret.name, client=secret.client)
    assert provider.active() == key
    with pytest.raises(ProviderConfigError, match="was forked"):
        provider.after_fork()
    with pytest.raises(ProviderConfigError, match="pass a function"):
        provider.active()
    provider.close()
    secret.client.list_secrets()


def test_a_function_makes_the_client_and_makes_it_again_when_needed(proxy, secret, fault):
    key = secret.write_key()
    made = []

    def make():
        made.append(boto3.client("secretsmanager", endpoint_url=proxy.url, region_name="eu-central-1"))
        return made[-1]

    provider = AwsSecretsManagerKeyProvider(secret.name, client=make)
    assert provider.active() == key
    provider.after_fork()
    assert provider.active() == key
    proxy.faults.append(fault(400, "ExpiredTokenException"))
    assert provider.active() == key
    assert len(made) == 3
    provider.close()
    for client in made:
        client.close()


def test_a_ready_client_and_other_settings_do_not_go_together(secret):
    with pytest.raises(ProviderConfigError, match="region would have no effect"):
        AwsSecretsManagerKeyProvider("x", client=secret.client, region="eu-west-1")


def test_a_function_that_makes_no_client_is_a_type_error():
    with pytest.raises(TypeError, match="did not return a boto3 client"):
        AwsSecretsManagerKeyProvider("x", client=lambda: 1).active()


def test_after_a_fork_connections_are_new(secret, provider):
    key = secret.write_key()
    provider.active()
    before = provider._connection.ready()
    provider.after_fork()
    assert provider.active() == key
    assert provider._connection.ready() is not before
    before.close()


def test_four_threads_at_once(secret, provider):
    key = secret.write_key()
    found: list[Key] = []
    threads = [threading.Thread(target=lambda: found.append(provider.active())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [key] * 4


def test_a_closed_provider_says_so(secret, provider):
    secret.write_key()
    provider.active()
    provider.close()
    provider.close()
    with pytest.raises(KeyProviderError, match="closed"):
        provider.active()


def test_without_boto3_the_message_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "botocore.config", None)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(ProviderConfigError, match=r"pip install 'encrypted-sessions\[aws\]'"):
        AwsSecretsManagerKeyProvider("x").active()


async def test_a_ring_follows_a_rotation(secret, provider):
    first = secret.write_key()
    async with KeyRing(provider) as ring:
        assert await ring.active() == first
        second = secret.write_key()
        await ring.refresh()
        assert await ring.active() == second
        assert await ring.get(first.kid) == first
