"""Keys wrapped by AWS KMS: against moto's server, over HTTP, with the faults that moto does not have."""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any

import boto3
import pytest

from encrypted_sessions_tests.leaks import Sentinel, chain, our_locals
from keyproviders import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.aws import AwsKmsKeyWrapper, sdk
from keyproviders.keyset import KeyWrapper, WrappedKey

CONTEXT = {"keyset": "default", "key": "k1", "created_at": "2026-11-23T07:00:00Z"}
ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_ARN = "arn:aws:kms:eu-central-1:123456789012:key/ffffffff-12ab-34cd-56ef-1234567890ab"
MULTI = "arn:aws:kms:eu-central-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"
MULTI_THERE = MULTI.replace("eu-central-1", "eu-west-1")
BLOB = base64.b64encode(b"wrapped").decode()
WRAPPED = WrappedKey(ARN, BLOB)


@pytest.fixture
def wrapper(proxy, kms):
    made = AwsKmsKeyWrapper(kms.arn, endpoint_url=proxy.url)
    yield made
    made.close()


@pytest.fixture
def make(proxy):
    """A wrapper on the proxy."""
    made = []

    def make(key_id: str, **more: Any) -> AwsKmsKeyWrapper:
        made.append(AwsKmsKeyWrapper(key_id, endpoint_url=proxy.url, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def answer(fault: Any, **parts: Any) -> Any:
    """What the proxy answers, in the place of KMS."""
    return fault(200, body=json.dumps(parts).encode())


def failure(wrapper: AwsKmsKeyWrapper, wrapped: WrappedKey = WRAPPED) -> KeyProviderError:
    with pytest.raises(KeyProviderError) as caught:
        wrapper.unwrap(wrapped, CONTEXT)
    return caught.value


# Making, opening, wrapping anew.


def test_it_is_a_wrapper(wrapper):
    assert isinstance(wrapper, KeyWrapper)


def test_a_key_that_was_made_opens_and_is_another_one_each_time(wrapper, kms):
    secret, wrapped = wrapper.generate(CONTEXT)
    assert len(secret) == 32
    assert wrapped.kek == kms.arn
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    assert wrapper.generate(CONTEXT)[0] != secret


def test_each_call_is_one_request_that_says_which_key_and_what_is_bound(proxy, kms, wrapper):
    _, wrapped = wrapper.generate(CONTEXT)
    wrapper.unwrap(wrapped, CONTEXT)
    wrapper.rewrap(wrapped, CONTEXT)
    assert [(one.target, one.body) for one in proxy.asked] == [
        ("GenerateDataKey", {"KeyId": kms.arn, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}),
        ("Decrypt", {"KeyId": kms.arn, "CiphertextBlob": wrapped.ciphertext, "EncryptionContext": CONTEXT}),
        (
            "ReEncrypt",
            {
                "CiphertextBlob": wrapped.ciphertext,
                "SourceKeyId": kms.arn,
                "SourceEncryptionContext": CONTEXT,
                "DestinationKeyId": kms.arn,
                "DestinationEncryptionContext": CONTEXT,
            },
        ),
    ]


@pytest.mark.parametrize("name", ["keyset", "key", "created_at"])
def test_a_wrapped_key_opens_in_its_own_place_only(wrapper, name: str):
    _, wrapped = wrapper.generate(CONTEXT)
    with pytest.raises(InvalidKeyError, match="copied from another keyset or name"):
        wrapper.unwrap(wrapped, {**CONTEXT, name: "another"})
    with pytest.raises(InvalidKeyError):
        wrapper.rewrap(wrapped, {**CONTEXT, name: "another"})


def test_a_context_of_the_users_own_is_bound_too(proxy, kms, make):
    own = {"tenant": "7", "stage": "prod"}
    secret, wrapped = make(kms.arn, context=own).generate(CONTEXT)
    assert proxy.asked[-1].body["EncryptionContext"] == {**own, **CONTEXT}
    assert make(kms.arn, context=own).unwrap(wrapped, CONTEXT) == secret
    for other in (None, {"tenant": "8", "stage": "prod"}, {"tenant": "7"}):
        with pytest.raises(InvalidKeyError):
            make(kms.arn, context=other).unwrap(wrapped, CONTEXT)


def test_a_context_that_changes_later_changes_nothing(kms, make):
    own = {"tenant": "7"}
    wrapper = make(kms.arn, context=own)
    secret, wrapped = wrapper.generate(CONTEXT)
    own["tenant"] = "8"
    assert wrapper.unwrap(wrapped, CONTEXT) == secret


def test_a_changed_byte_does_not_open(wrapper):
    _, wrapped = wrapper.generate(CONTEXT)
    blob = bytearray(base64.b64decode(wrapped.ciphertext))
    blob[-1] ^= 1
    with pytest.raises(InvalidKeyError, match="restore the last good copy of the keyset"):
        wrapper.unwrap(WrappedKey(wrapped.kek, base64.b64encode(blob).decode()), CONTEXT)


@pytest.mark.parametrize(
    "ciphertext", ["", "AAA", "AA==x", "A A=", "AB==", "é" * 8, base64.b64encode(bytes(6145)).decode()]
)
def test_bytes_that_kms_cannot_have_wrapped_are_not_sent(proxy, make, ciphertext: str):
    for operation in (make(ARN).unwrap, make(ARN).rewrap):
        with pytest.raises(InvalidKeyError, match="not base64 text that KMS could"):
            operation(WrappedKey(ARN, ciphertext), CONTEXT)
    assert proxy.asked == []


# Which key.


@pytest.mark.parametrize("form", ["arn", "id", "alias", "alias_arn"])
def test_the_arn_is_stored_however_the_key_is_named(proxy, kms, make, form: str):
    name = kms.arn.partition(":key/")[0] + f":{kms.alias}" if form == "alias_arn" else getattr(kms, form)
    wrapper = make(name)
    secret, wrapped = wrapper.generate(CONTEXT)
    assert wrapped.kek == kms.arn
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    assert [one.body["KeyId"] for one in proxy.asked] == [name, name]
    assert make(kms.arn).unwrap(wrapped, CONTEXT) == secret


@pytest.mark.parametrize("configured", [OTHER_ARN, "ffffffff-12ab-34cd-56ef-1234567890ab"])
def test_a_key_that_the_settings_do_not_name_is_refused_without_a_call(proxy, make, configured: str):
    error = failure(make(configured))
    assert type(error) is ProviderConfigError
    assert ARN in str(error)
    assert configured in str(error)
    assert f"also_kek={ARN}" in str(error)
    assert proxy.asked == []


@pytest.mark.parametrize(
    "place",
    ["aws:kms:eu-west-1:123456789012", "aws:kms:eu-central-1:999999999999", "aws-cn:kms:eu-central-1:123456789012"],
)
def test_an_alias_of_another_account_or_region_is_refused_without_a_call(proxy, make, place: str):
    assert type(failure(make(f"arn:{place}:alias/agents"))) is ProviderConfigError
    assert proxy.asked == []


@pytest.mark.parametrize("form", ["arn", "id"])
def test_also_kek_lets_the_keys_of_before_open(proxy, kms, make, form: str):
    secret, wrapped = make(kms.arn).generate(CONTEXT)
    newer = kms.new_key()
    also = getattr(kms, form)
    for given in (also, (also,), (OTHER_ARN, also)):
        wrapper = make(newer, also_kek=given)
        assert wrapper.unwrap(wrapped, CONTEXT) == secret
        assert proxy.asked[-1].body["KeyId"] == also
        assert wrapper.generate(CONTEXT)[1].kek == newer


def test_rewrap_takes_a_key_from_any_other_and_nobody_sees_it(proxy, kms, make):
    secret, wrapped = make(kms.arn).generate(CONTEXT)
    newer = kms.new_key()
    moved = make(newer).rewrap(wrapped, CONTEXT)
    assert moved.kek == newer
    assert make(newer).unwrap(moved, CONTEXT) == secret
    assert [one.target for one in proxy.asked] == ["GenerateDataKey", "ReEncrypt", "Decrypt"]
    with pytest.raises(ProviderConfigError):
        make(kms.arn).unwrap(moved, CONTEXT)


def test_an_alias_that_was_moved_is_told_with_the_way_on(proxy, kms, make, fault):
    """As KMS says it; moto denies access instead."""
    wrapper = make(kms.alias)
    secret, wrapped = wrapper.generate(CONTEXT)
    newer = kms.new_key()
    kms.point_alias_to(newer)
    proxy.faults.append(fault(400, "IncorrectKeyException", "The key ID in the request does not identify a CMK"))
    error = failure(wrapper, wrapped)
    assert type(error) is InvalidKeyError
    for words in (kms.arn, kms.alias, "the alias was moved", "also_kek=", "keys rewrap"):
        assert words in str(error)
    assert make(kms.alias, also_kek=kms.arn).unwrap(wrapped, CONTEXT) == secret
    moved = wrapper.rewrap(wrapped, CONTEXT)
    assert moved.kek == newer
    assert wrapper.unwrap(moved, CONTEXT) == secret


def test_binding_a_key_anew_is_one_request_with_the_key_that_the_settings_name(kms, make, proxy, fault):
    """A keyset that names another one is refused as by unwrap: `upgrade` moves no key from elsewhere."""
    wrapper, new = make(kms.alias), {**CONTEXT, "keyset_id": "0" * 32}
    secret, wrapped = wrapper.generate(CONTEXT)
    anew = wrapper.rebind(wrapped, CONTEXT, new)
    assert proxy.asked[-1].target == "ReEncrypt"
    assert proxy.asked[-1].body["SourceKeyId"] == kms.alias
    assert wrapper.unwrap(anew, new) == secret
    with pytest.raises(InvalidKeyError):
        wrapper.unwrap(anew, CONTEXT)
    with pytest.raises(InvalidKeyError, match="the keyset was altered"):
        wrapper.rebind(wrapped._replace(kek=kms.new_key()), CONTEXT, new)
    asked = len(proxy.asked)
    with pytest.raises(ProviderConfigError, match="may be used here"):
        make(kms.new_key()).rebind(wrapped, CONTEXT, new)
    assert len(proxy.asked) == asked
    assert make(kms.arn, also_kek=()).rebind(wrapped, CONTEXT, new).kek == kms.arn


def test_a_key_that_opened_with_another_kms_key_than_the_keyset_says_is_refused(kms, make, proxy, fault):
    """Whoever writes to the keyset may write any ARN into it."""
    wrapper = make(kms.alias)
    _, wrapped = wrapper.generate(CONTEXT)
    error = failure(wrapper, wrapped._replace(kek=OTHER_ARN))
    assert type(error) is ProviderConfigError
    assert kms.arn in str(error)
    assert OTHER_ARN in str(error)
    with pytest.raises(InvalidKeyError, match="the keyset was altered"):
        wrapper.rewrap(wrapped._replace(kek=kms.new_key()), CONTEXT)


@pytest.mark.parametrize(
    "kek",
    ["", "transit/agents", "alias/agents", ARN.replace("key/", "alias/"), ARN + "\n", ARN + "\x1b[2J", "x" * 3000],
)
def test_a_stored_kek_that_is_no_arn_of_a_kms_key_is_neither_sent_nor_shown(proxy, make, kek: str):
    for operation in (make("alias/agents").unwrap, make("alias/agents").rewrap):
        with pytest.raises(
            ProviderConfigError, match=rf"\({len(kek)} characters\) that is not the ARN of a KMS key"
        ) as caught:
            operation(WrappedKey(kek, BLOB), CONTEXT)
        assert "\x1b" not in str(caught.value)
    assert proxy.asked == []


# Regions.


def test_an_arn_says_the_region(proxy, kms, make, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    make(kms.arn).generate(CONTEXT)
    assert "/eu-central-1/kms/" in proxy.asked[-1].headers["Authorization"]


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        ({"AWS_REGION": "eu-central-1"}, "eu-central-1"),
        ({"AWS_DEFAULT_REGION": "eu-central-1"}, "eu-central-1"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-central-1"}, "eu-central-1"),
    ],
)
def test_the_region_is_heeded_in_either_variable(proxy, kms, make, monkeypatch, settings: dict[str, str], region: str):
    monkeypatch.delenv("AWS_REGION")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    make(kms.arn.rpartition("/")[2]).generate(CONTEXT)
    assert f"/{region}/kms/" in proxy.asked[-1].headers["Authorization"]


@pytest.mark.parametrize("name", [ARN, ARN.replace("key/", "alias/")])
def test_an_arn_and_another_region_do_not_go_together(name: str):
    AwsKmsKeyWrapper(name, region="eu-central-1")
    with pytest.raises(ProviderConfigError, match="region is 'eu-west-1', and the ARN"):
        AwsKmsKeyWrapper(name, region="eu-west-1")


def test_a_key_of_another_region_is_refused_before_kms_is_asked(proxy, make):
    for wrapper in (make("alias/agents", region="eu-west-1"), make(ARN.rpartition("/")[2], region="eu-west-1")):
        for operation in (wrapper.unwrap, wrapper.rewrap):
            with pytest.raises(ProviderConfigError, match=r"KMS was asked in eu-west-1.*set region=eu-central-1"):
                operation(WRAPPED, CONTEXT)
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("configured", "options", "sent"),
    [
        (MULTI_THERE, {}, MULTI_THERE),
        ("alias/agents", {"region": "eu-west-1"}, "alias/agents"),
        (MULTI.rpartition("/")[2], {"region": "eu-west-1"}, MULTI.rpartition("/")[2]),
        (OTHER_ARN.replace("eu-central-1", "eu-west-1"), {"also_kek": MULTI}, MULTI_THERE),
    ],
)
def test_a_replica_opens_what_the_key_of_another_region_wrapped(proxy, make, fault, configured, options, sent):
    secret = bytes(range(32))
    proxy.faults.append(answer(fault, KeyId=MULTI_THERE, Plaintext=base64.b64encode(secret).decode()))
    assert make(configured, **options).unwrap(WrappedKey(MULTI, BLOB), CONTEXT) == secret
    assert proxy.asked[-1].body["KeyId"] == sent
    assert "/eu-west-1/kms/" in proxy.asked[-1].headers["Authorization"]


def test_a_replica_takes_over_what_the_key_of_another_region_wrapped(proxy, make, fault):
    proxy.faults.append(answer(fault, KeyId=MULTI_THERE, SourceKeyId=MULTI_THERE, CiphertextBlob=BLOB))
    assert make(MULTI_THERE).rewrap(WrappedKey(MULTI, BLOB), CONTEXT) == WrappedKey(MULTI_THERE, BLOB)
    assert proxy.asked[-1].body["SourceKeyId"] == MULTI_THERE


@pytest.mark.parametrize("other", [MULTI.replace("123456789012", "999999999999"), MULTI.replace("mrk-1", "mrk-2")])
def test_a_multi_region_key_of_another_account_or_id_is_another_key(proxy, make, other: str):
    assert type(failure(make(MULTI), WrappedKey(other, BLOB))) is ProviderConfigError
    assert proxy.asked == []


# Answers that are none.

GOOD = {"KeyId": ARN, "CiphertextBlob": BLOB, "Plaintext": base64.b64encode(bytes(32)).decode()}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"Plaintext": base64.b64encode(bytes(16)).decode()}, "has 16 bytes, but a key has 32"),
        ({"Plaintext": ""}, "has 0 bytes"),
        ({"Plaintext": None}, "has no bytes"),
        ({"CiphertextBlob": None}, "no wrapped key"),
        ({"CiphertextBlob": ""}, "no wrapped key"),
        ({"KeyId": None}, "names no key ARN"),
        ({"KeyId": "alias/agents"}, "names no key ARN"),
        (
            {"KeyId": OTHER_ARN},
            "instead of arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ),
    ],
)
def test_a_made_key_is_checked(proxy, make, fault, changed: Mapping[str, Any], words: str):
    proxy.faults.append(answer(fault, **{**GOOD, **changed}))
    with pytest.raises(InvalidKeyError, match=words):
        make(ARN).generate(CONTEXT)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"Plaintext": base64.b64encode(bytes(33)).decode()}, InvalidKeyError),
        ({"Plaintext": None}, InvalidKeyError),
        ({"KeyId": None}, ProviderConfigError),
        ({"KeyId": OTHER_ARN}, ProviderConfigError),
    ],
)
def test_an_opened_key_is_checked(proxy, make, fault, changed: Mapping[str, Any], kind: type):
    proxy.faults.append(answer(fault, **{**GOOD, **changed}))
    assert type(failure(make(ARN))) is kind


@pytest.mark.parametrize(
    "changed",
    [
        {"KeyId": OTHER_ARN},
        {"KeyId": None},
        {"SourceKeyId": OTHER_ARN},
        {"SourceKeyId": None},
        {"CiphertextBlob": None},
    ],
)
def test_a_key_wrapped_anew_is_checked(proxy, make, fault, changed: Mapping[str, Any]):
    proxy.faults.append(answer(fault, **{**GOOD, "SourceKeyId": ARN, **changed}))
    with pytest.raises(InvalidKeyError):
        make(ARN).rewrap(WRAPPED, CONTEXT)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"KeyId": "x", "Plaintext": "AAAAA"}', b"\xff"])
def test_an_answer_of_something_else_is_a_wrong_setting(proxy, make, fault, body: bytes):
    proxy.faults.append(fault(200, body=body))
    error = failure(make(ARN))
    assert type(error) is ProviderConfigError
    assert error.__cause__ is error.__context__ is None


# Failures.

TRANSIENT = [
    ("KMSInternalException", 500),
    ("DependencyTimeoutException", 503),
    ("DependencyTimeoutException", 400),
    ("KeyUnavailableException", 500),
    ("KeyUnavailableException", 400),
    ("ThrottlingException", 400),
    ("InternalFailure", 500),
    ("ServiceUnavailableException", 503),
    ("Anything", 500),
    ("", 502),
    ("", 504),
]
OTHERS = [
    ("LimitExceededException", "", ProviderConfigError, "quota"),
    ("AccessDeniedException", "User: x is not authorized to perform: kms:Decrypt", KeyAccessDeniedError, "kms:Decrypt"),
    ("DisabledException", f"{ARN} is disabled.", KeyDisabledError, "enable-key"),
    ("KMSInvalidStateException", f"{ARN} is pending deletion.", KeyDisabledError, "cancel-key-deletion"),
    ("KMSInvalidStateException", f"{ARN} is pending import.", KeyDisabledError, "describe-key"),
    ("NotFoundException", "Key 'x' does not exist", KeyNotFoundError, "region and the account"),
    ("NotFoundException", "Alias alias/x is not found.", KeyNotFoundError, "check the name"),
    ("InvalidCiphertextException", "", InvalidKeyError, "last good copy"),
    ("IncorrectKeyException", "", InvalidKeyError, "another KMS key wrapped it"),
    ("InvalidKeyUsageException", "", ProviderConfigError, "symmetric"),
    ("ValidationException", "1 validation error", ProviderConfigError, "1 validation error"),
    ("InvalidGrantTokenException", "", ProviderConfigError, "InvalidGrantToken"),
    ("UnsupportedOperationException", "", ProviderConfigError, "UnsupportedOperation"),
    ("UnrecognizedClientException", "The security token is invalid", KeyAccessDeniedError, "identity"),
    ("InvalidSignatureException", "", KeyAccessDeniedError, "clock"),
    ("SomethingNew", "", ProviderConfigError, "SomethingNew"),
]
CALLS = {
    "generate": lambda wrapper: wrapper.generate(CONTEXT),
    "unwrap": lambda wrapper: wrapper.unwrap(WRAPPED, CONTEXT),
    "rewrap": lambda wrapper: wrapper.rewrap(WRAPPED, CONTEXT),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("code", "status"), TRANSIENT)
def test_what_passes_is_unavailable_and_botocore_does_not_repeat_it(proxy, make, fault, code, status, call):
    proxy.faults.append(fault(status, code))
    with pytest.raises(KeyProviderError) as caught:
        CALLS[call](make(ARN))
    assert type(caught.value) is KeyUnavailableError
    assert code in str(caught.value)
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("code", "message", "kind", "words"), OTHERS)
def test_what_does_not_pass_says_what_to_do_and_is_not_repeated(proxy, make, fault, code, message, kind, words, call):
    proxy.faults.append(fault(400, code, message))
    with pytest.raises(KeyProviderError) as caught:
        CALLS[call](make(ARN))
    error = caught.value
    assert type(error) is kind
    for shown in (code, message, words, ARN, "'k1' of the keyset 'default'"):
        assert shown in str(error)
    assert error.__cause__ is error.__context__ is None
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ExpiredToken"])
def test_expired_credentials_are_looked_for_once_more(proxy, wrapper, fault, monkeypatch, code: str):
    secret, wrapped = wrapper.generate(CONTEXT)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEWER")
    del proxy.asked[:]
    proxy.faults.append(fault(400, code, "The security token included in the request is expired"))
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    assert ["AKIDNEWER" in one.headers["Authorization"] for one in proxy.asked] == [False, True]


def test_credentials_that_stay_expired_are_denied(proxy, make, fault):
    proxy.faults += [fault(400, "ExpiredTokenException")] * 2
    error = failure(make(ARN))
    assert isinstance(error, KeyAccessDeniedError)
    assert error.__cause__ is error.__context__ is None
    assert len(proxy.asked) == 2


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    wrapper = AwsKmsKeyWrapper(ARN, endpoint_url=url)
    assert type(failure(wrapper)) is KeyUnavailableError
    wrapper.close()


def test_the_connection_breaks_off(proxy, make, fault):
    proxy.faults.append(fault(breaks=True))
    assert type(failure(make(ARN))) is KeyUnavailableError
    assert len(proxy.asked) == 1


def test_no_answer_within_the_time(proxy, make, fault, monkeypatch):
    monkeypatch.setattr(sdk, "_READ_TIMEOUT_S", 0.05)
    go_on = threading.Event()
    proxy.faults.append(fault(waits=go_on, code="Late"))
    try:
        error = failure(make(ARN))
    finally:
        go_on.set()
    assert type(error) is KeyUnavailableError
    assert "no answer within 0.05 s" in str(error)
    assert len(proxy.asked) == 1


def test_one_second_to_connect_and_two_to_answer_and_nothing_is_repeated(wrapper):
    config = wrapper._connection.ready().meta.config
    assert (config.connect_timeout, config.read_timeout) == (1.0, 2.0)
    assert config.retries["total_max_attempts"] == 1


def test_no_credentials_is_denied(make, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = failure(make(ARN))
    assert type(error) is KeyAccessDeniedError
    assert "found no usable AWS credentials" in str(error)


def test_no_region_is_a_wrong_setting(monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(ProviderConfigError, match="no AWS region is set"):
        AwsKmsKeyWrapper("alias/agents").generate(CONTEXT)


def test_without_boto3_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(ProviderConfigError, match=r"pip install 'encrypted-sessions\[aws\]'"):
        AwsKmsKeyWrapper("alias/agents").generate(CONTEXT)


# Arguments and options.


def test_the_options_of_a_url():
    assert sorted(AwsKmsKeyWrapper.URL_OPTIONS) == ["also_kek", "endpoint_url", "profile", "region"]
    assert {"context", "client", "allow_insecure", "aws_secret_access_key"} <= set(AwsKmsKeyWrapper.URL_REFUSED)
    wrapper = AwsKmsKeyWrapper.from_options(
        "alias/agents", {"region": "eu-west-1", "also_kek": f"{ARN},{OTHER_ARN}"}, allow_insecure=False
    )
    assert wrapper.place == "aws-kms:alias/agents"
    assert repr(wrapper) == "<AwsKmsKeyWrapper aws-kms:alias/agents>"
    assert [name.text for name in wrapper._also] == [ARN, OTHER_ARN]


TEXT = base64.urlsafe_b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key_id": ""}, "neither an id nor an ARN"),
        ({"key_id": "agents"}, "an alias, which begins with alias/"),
        ({"key_id": "alias/"}, "neither an id nor an ARN"),
        ({"key_id": "alias/two words"}, "neither an id nor an ARN"),
        ({"key_id": ARN.replace("kms", "secretsmanager")}, "neither an id nor an ARN"),
        ({"key_id": ARN + "\n"}, "neither an id nor an ARN"),
        ({"key_id": TEXT}, "a secret key was given"),
        ({"also_kek": "alias/agents"}, "neither an ARN nor an id"),
        ({"also_kek": ARN.replace("key/", "alias/")}, "neither an ARN nor an id"),
        ({"also_kek": (ARN, "")}, "neither an ARN nor an id"),
        ({"context": {"keyset": "x"}}, "'keyset', which the keyset binds itself"),
        ({"context": {"tenant": ""}}, "empty name or value"),
        ({"region": ""}, "region is empty"),
        ({"endpoint_url": "http://kms.example"}, "plain http to another machine"),
        ({"endpoint_url": "https://me:S3cret@kms.example"}, "a user or a query"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_showing_a_secret(given: dict[str, Any], words: str):
    with pytest.raises(ProviderConfigError, match=words) as caught:
        AwsKmsKeyWrapper(**{"key_id": "alias/agents", **given})
    assert "S3cret" not in str(caught.value)
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"key_id": 1},
        {"region": b"x"},
        {"profile": 1},
        {"context": 1},
        {"context": {"a": 1}},
        {"context": {1: "a"}},
        {"also_kek": 1},
        {"also_kek": [ARN]},
        {"also_kek": (1,)},
        {"client": 1},
        {"allow_insecure": 1},
    ],
)
def test_a_wrong_type_is_a_type_error(given: dict[str, Any]):
    with pytest.raises(TypeError, match=next(iter(given))):
        AwsKmsKeyWrapper(**{"key_id": "alias/agents", **given})


@pytest.mark.parametrize("wrapped", [None, (ARN, BLOB), WrappedKey(ARN, 1), WrappedKey(b"x", BLOB)])
def test_what_is_no_wrapped_key_is_a_type_error(proxy, make, wrapped: Any):
    for operation in (make(ARN).unwrap, make(ARN).rewrap):
        with pytest.raises(TypeError, match="wrapped"):
            operation(wrapped, CONTEXT)
    assert proxy.asked == []


@pytest.mark.parametrize("context", [None, 1, {"key": 1}, {1: "x"}])
def test_what_is_no_context_is_a_type_error(proxy, make, context: Any):
    wrapper = make(ARN)
    for operation in (
        wrapper.generate,
        lambda c: wrapper.unwrap(WRAPPED, c),
        lambda c: wrapper.rewrap(WRAPPED, c),
    ):
        with pytest.raises(TypeError, match="context"):
            operation(context)
    assert proxy.asked == []


def test_plain_http_elsewhere_works_only_where_code_allows_it(monkeypatch):
    with pytest.warns(UserWarning, match="plain http to another machine"):
        AwsKmsKeyWrapper.from_options("alias/agents", {"endpoint_url": "http://kms.example"}, allow_insecure=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.example")
    with pytest.raises(ProviderConfigError, match="plain http to another machine"):
        AwsKmsKeyWrapper("alias/agents").generate(CONTEXT)


# Ready clients, forks, threads, closing.


def test_a_ready_client_is_used_as_it_is(kms):
    wrapper = AwsKmsKeyWrapper(kms.alias, client=kms.client)
    secret, wrapped = wrapper.generate(CONTEXT)
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    with pytest.raises(ProviderConfigError, match="was forked"):
        wrapper.after_fork()
    with pytest.raises(ProviderConfigError, match=r"pass a function that makes one, .*boto3.client\('kms'\)"):
        wrapper.unwrap(wrapped, CONTEXT)
    wrapper.close()
    kms.client.list_keys()


def test_a_client_that_does_not_say_its_region_is_used_too():
    class Client:
        def decrypt(self, **asked: Any) -> dict[str, Any]:
            return {"KeyId": ARN, "Plaintext": bytes(32)}

    assert AwsKmsKeyWrapper(ARN, client=Client()).unwrap(WRAPPED, CONTEXT) == bytes(32)


def test_a_function_makes_the_client_and_makes_it_again_when_needed(proxy, kms, fault):
    made = []

    def make():
        made.append(boto3.client("kms", endpoint_url=proxy.url, region_name="eu-central-1"))
        return made[-1]

    wrapper = AwsKmsKeyWrapper(kms.arn, client=make)
    secret, wrapped = wrapper.generate(CONTEXT)
    wrapper.after_fork()
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    proxy.faults.append(fault(400, "ExpiredTokenException"))
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    assert len(made) == 3
    wrapper.close()
    for client in made:
        client.close()


def test_a_ready_client_and_other_settings_do_not_go_together(kms):
    with pytest.raises(ProviderConfigError, match="region would have no effect"):
        AwsKmsKeyWrapper("alias/agents", client=kms.client, region="eu-central-1")


def test_a_function_that_makes_no_client_is_a_type_error():
    with pytest.raises(TypeError, match="did not return a boto3 client"):
        AwsKmsKeyWrapper("alias/agents", client=lambda: 1).generate(CONTEXT)


def test_after_a_fork_connections_are_new(wrapper):
    secret, wrapped = wrapper.generate(CONTEXT)
    before = wrapper._connection.ready()
    wrapper.after_fork()
    assert wrapper.unwrap(wrapped, CONTEXT) == secret
    assert wrapper._connection.ready() is not before
    before.close()


def test_four_threads_at_once(wrapper):
    secret, wrapped = wrapper.generate(CONTEXT)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(wrapper.unwrap(wrapped, CONTEXT))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [secret] * 4


def test_a_closed_wrapper_says_so(wrapper):
    wrapper.generate(CONTEXT)
    wrapper.close()
    wrapper.close()
    with pytest.raises(KeyProviderError, match="closed"):
        wrapper.generate(CONTEXT)


# Secrets.

SPOILT = [
    {"KeyId": OTHER_ARN},
    {"KeyId": None},
    {"SourceKeyId": None},
    {"CiphertextBlob": None},
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("changed", SPOILT)
def test_no_error_carries_a_key_that_kms_gave_or_the_credentials(proxy, make, fault, monkeypatch, changed, call):
    key, credential = Sentinel(32), Sentinel(40)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credential.text)
    monkeypatch.setenv("AWS_SESSION_TOKEN", credential.text)
    plaintext = base64.b64encode(key.bytes).decode()
    given = {"KeyId": ARN, "SourceKeyId": ARN, "CiphertextBlob": BLOB, "Plaintext": plaintext}
    for reply in (
        answer(fault, **{**given, **changed}),
        answer(fault, **{**given, "Plaintext": plaintext[:-3], "CiphertextBlob": "A"}),
        fault(400, "DisabledException"),
        fault(breaks=True),
    ):
        proxy.faults.append(reply)
        try:
            CALLS[call](make(ARN))
        except KeyProviderError as error:
            shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
            shown += "".join(value for one in chain(error) for _, _, value in our_locals(one))
            frames = [frame for one in chain(error) for frame, _ in traceback.walk_tb(one.__traceback__)]
            assert not [frame for frame in frames if "botocore" in frame.f_code.co_filename]
            for sentinel in (key, credential):
                assert sentinel.found_in(shown) is None
