"""Answers that AWS would never give: whoever answers instead ends nothing, shows nothing and steers no terminal."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions_tests.leaks import Sentinel, chain, our_locals
from encrypted_sessions_tests.loopback_http import LoopbackServer
from keyproviders import InvalidKeyError, KeyProviderError, ProviderConfigError
from keyproviders.aws import AwsKmsKeyWrapper, AwsSecretsManagerKeyProvider
from keyproviders.keyset import WrappedKey

ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
CONTEXT = {"keyset": "default", "key": "k1", "created_at": "2026-11-23T07:00:00Z"}
WRAPPED = WrappedKey(ARN, base64.b64encode(b"wrapped").decode())
VERSION = "v" * 32


@pytest.fixture
def calls(proxy) -> Iterator[dict[str, Callable[[], object]]]:
    """Each kind of request, by its name."""
    kms, secrets = (
        AwsKmsKeyWrapper(ARN, endpoint_url=proxy.url),
        AwsSecretsManagerKeyProvider("prod/key", endpoint_url=proxy.url),
    )
    yield {
        "generate": lambda: kms.generate(CONTEXT),
        "unwrap": lambda: kms.unwrap(WRAPPED, CONTEXT),
        "rewrap": lambda: kms.rewrap(WRAPPED, CONTEXT),
        "active": secrets.active,
        "get": lambda: secrets.get(VERSION),
    }
    kms.close()
    secrets.close()


def failure(call: Callable[[], object]) -> KeyProviderError:
    with pytest.raises(KeyProviderError) as caught:
        call()
    return caught.value


# What botocore cannot parse.

ODD = [
    b"[1]",
    b'"x"',
    b"5",
    b"null",
    b'{"a":' * 100_000,
    b'{"Plaintext": 5, "CiphertextBlob": 5, "SecretBinary": 5}',
    b'{"Plaintext": NaN, "CiphertextBlob": [1], "SecretBinary": {}}',
    b'{"Plaintext": "\\ud800", "CiphertextBlob": "\\ud800", "SecretBinary": "!!!!"}',
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("call", ["generate", "unwrap", "rewrap", "active", "get"])
def test_an_answer_that_is_none_of_aws_is_a_wrong_setting(proxy, calls, fault, call: str, body: bytes):
    proxy.faults.append(fault(200, body=body))
    error = failure(calls[call])
    assert type(error) is ProviderConfigError
    assert "the answer is not a valid " in str(error)
    assert error.__cause__ is error.__context__ is None


@pytest.mark.parametrize("body", [b"[1]", b"null", b'{"__type": 5}', b'{"__type": ["x"]}', b'{"a":' * 100_000])
@pytest.mark.parametrize("call", ["generate", "unwrap", "rewrap", "active"])
def test_an_error_that_is_none_of_aws_is_a_wrong_setting(proxy, calls, fault, call: str, body: bytes):
    proxy.faults.append(fault(400, body=body))
    assert type(failure(calls[call])) is ProviderConfigError


@pytest.mark.parametrize(
    "more",
    [
        {"CreatedDate": 1e300},
        {"CreatedDate": "nonsense"},
        {"CreatedDate": {"a": 1}},
        {"SecretBinary": "!!!!"},
        {"Plaintext": "!!!!", "CiphertextBlob": "!!!!"},
        {"Plaintext": 5, "CiphertextBlob": 5, "SecretBinary": 5},
    ],
)
@pytest.mark.parametrize("call", ["generate", "unwrap", "active"])
def test_no_error_shows_the_key_of_an_answer_that_cannot_be_parsed(proxy, calls, fault, call: str, more: Any):
    key = Sentinel(32)
    text = base64.b64encode(key.bytes).decode()
    proxy.faults.append(
        fault(
            200, body=json.dumps({"KeyId": ARN, "Plaintext": text, "SecretString": text, "Name": text, **more}).encode()
        )
    )
    try:
        calls[call]()
    except KeyProviderError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
        shown += "".join(value for one in chain(error) for _, _, value in our_locals(one))
        assert key.found_in(shown) is None
        frames = [frame for one in chain(error) for frame, _ in traceback.walk_tb(one.__traceback__)]
        assert not [frame for frame in frames if "botocore" in frame.f_code.co_filename]


def test_an_error_of_the_function_that_makes_a_client_is_its_makers():
    def broken() -> Any:
        raise ValueError("of the user's own")

    with pytest.raises(ValueError, match="of the user's own") as caught:
        AwsKmsKeyWrapper(ARN, client=broken).generate(CONTEXT)
    assert not isinstance(caught.value, KeyProviderError)


# What an answer says.


@pytest.mark.parametrize("call", ["generate", "unwrap", "rewrap", "active"])
def test_words_of_an_answer_are_short_and_steer_no_terminal(proxy, calls, fault, call: str):
    proxy.faults.append(fault(400, "Odd\x1b[2J\n" + "x" * 100_000, "\x1b]0;title\x07 said\r\n\u202eso" + "y" * 100_000))
    said = str(failure(calls[call]))
    assert said.isprintable()
    assert len(said) < 2_000
    assert "AWS answered Odd?[2J" in said


def test_an_answer_without_a_version_is_none_of_secrets_manager(proxy, calls, fault):
    for body in (b"{}", b"<html>hello</html>", b'{"VersionId": ""}'):
        proxy.faults.append(fault(200, body=body))
        error = failure(calls["active"])
        assert type(error) is ProviderConfigError
        assert "check the endpoint" in str(error)


def test_another_version_than_the_one_asked_for_is_refused(proxy, calls, fault):
    text = base64.b64encode(bytes(range(32))).decode()
    proxy.faults.append(fault(200, body=json.dumps({"VersionId": "w" * 32, "SecretString": text}).encode()))
    error = failure(calls["get"])
    assert type(error) is InvalidKeyError
    assert f"was asked for version {VERSION}" in str(error)


# Where requests go.


@pytest.mark.parametrize(
    "url",
    [
        "foo",
        "http://",
        "https://",
        "ftp://127.0.0.1/",
        "http://[::1",
        "https://host:99999",
        "https://ho st/",
        "https://h:x",
    ],
)
def test_an_endpoint_that_is_none_is_a_wrong_setting(url: str, monkeypatch: pytest.MonkeyPatch):
    for make in (AwsKmsKeyWrapper, AwsSecretsManagerKeyProvider):
        with pytest.raises(ProviderConfigError, match="endpoint"):
            make(ARN, endpoint_url=url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    wrapper = AwsKmsKeyWrapper(ARN)
    with pytest.raises(ProviderConfigError, match="endpoint"):
        wrapper.generate(CONTEXT)
    wrapper.close()


def test_https_to_a_port_without_it_is_no_question_of_certificates(proxy):
    wrapper = AwsKmsKeyWrapper(ARN, endpoint_url=proxy.url.replace("http:", "https:"))
    error = failure(lambda: wrapper.generate(CONTEXT))
    wrapper.close()
    assert type(error) is ProviderConfigError
    assert "certificate" not in str(error)
    assert "TLS could not be set up" in str(error)


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server that refuses everything, and the first lines that it got."""
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            got.append(self.requestline)
            self.send_error(502)

    with closing(LoopbackServer(Handler)) as server:
        yield server.url, got


@pytest.mark.parametrize("from_environment", [False, True])
def test_what_goes_to_this_very_machine_goes_through_no_proxy(
    proxy, kms, from_environment: bool, monkeypatch: pytest.MonkeyPatch
):
    with listener() as (elsewhere, got):
        monkeypatch.setenv("HTTP_PROXY", elsewhere)
        monkeypatch.setenv("http_proxy", elsewhere)
        monkeypatch.setenv("NO_PROXY", "")
        if from_environment:
            monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", proxy.url)
            wrapper = AwsKmsKeyWrapper(kms.arn)
        else:
            wrapper = AwsKmsKeyWrapper(kms.arn, endpoint_url=proxy.url)
        secret, _ = wrapper.generate(CONTEXT)
        wrapper.close()
    assert got == []
    assert len(secret) == 32


def test_credentials_are_not_asked_for_in_the_clear(kms, proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """STS answers with credentials: plain http to another machine is no way for them either."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    token = tmp_path / "token"
    token.write_text("a token of the cluster")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/agents")
    with listener() as (proxy_url, got):
        # What goes to another machine would be seen here.
        monkeypatch.setenv("HTTP_PROXY", proxy_url)
        monkeypatch.setenv("http_proxy", proxy_url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.internal")
        wrapper = AwsKmsKeyWrapper(kms.arn, endpoint_url=proxy.url)
        with pytest.raises(ProviderConfigError, match=r"http://sts\.internal.* is plain http to another machine"):
            wrapper.generate(CONTEXT)
        wrapper.close()
        assert got == []
        allowed = AwsKmsKeyWrapper(kms.arn, endpoint_url=proxy.url, allow_insecure=True)
        with pytest.warns(UserWarning, match=r"http://sts\.internal"), pytest.raises(KeyProviderError):
            allowed.generate(CONTEXT)
        allowed.close()
    assert len(got) == 1
