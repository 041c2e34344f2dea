"""Keys wrapped by a key of AWS KMS, which never leaves KMS itself."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, ClassVar

from .._support.redaction import redact_frames
from ..errors import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyUnavailableError,
    ProviderConfigError,
)
from ..key import SECRET_BYTES, decode_key_text
from ..wrapping import (
    WrappedKey,
    arguments_from_options,
    bound_context,
    check_wrapped,
    checked_keks,
    describe_key,
    own_context,
)
from .connection import URL_OPTIONS, URL_REFUSED, AwsConnection
from .kms_keys import KmsKeyArn, KmsKeyName
from .sdk import ErrorRule

__all__ = ["AwsKmsKeyWrapper"]

_FORM = "aws-kms:alias/agents"
_MOST_BYTES = 6_144  # that Decrypt and ReEncrypt take

_ERROR_RULES = (
    ErrorRule("KMSInternal", KeyUnavailableError, ""),
    ErrorRule("DependencyTimeout", KeyUnavailableError, ""),
    ErrorRule("KeyUnavailable", KeyUnavailableError, ""),
    ErrorRule(
        "LimitExceeded", ProviderConfigError, "a KMS quota is exhausted: request a higher one (AWS Service Quotas)"
    ),
    ErrorRule(
        "AccessDenied", KeyAccessDeniedError, "check the policies of the KMS key and of this identity, and the context"
    ),
    ErrorRule("Disabled", KeyDisabledError, "aws kms enable-key enables the KMS key again"),
    ErrorRule(
        "KMSInvalidState",
        KeyDisabledError,
        "if it is scheduled for deletion, aws kms cancel-key-deletion and then enable-key bring it back",
        mentions="delet",
    ),
    ErrorRule("KMSInvalidState", KeyDisabledError, "aws kms describe-key shows its state, and what it waits for"),
    ErrorRule("InvalidKeyUsage", ProviderConfigError, "use a symmetric KMS key that encrypts and decrypts"),
    ErrorRule("NotFound", KeyNotFoundError, "check the name of the KMS key, the region and the account"),
    ErrorRule(
        "InvalidCiphertext",
        InvalidKeyError,
        "it was altered, or copied from another keyset or name, or wrapped with another context=; restore"
        " the last good copy of the keyset",
    ),
    ErrorRule(
        "IncorrectKey",
        InvalidKeyError,
        "another KMS key wrapped it: the alias was moved, or the keyset was altered; to allow the older key,"
        " add also_kek= with its ARN; to move the keyset, run `encrypted-sessions keys rewrap`",
    ),
)


class AwsKmsKeyWrapper:
    """Wraps the keys of a keyset with a key of AWS KMS: `AwsKmsKeyWrapper("alias/agents")`.

    As a URL: `aws-kms:alias/agents?keyset=file:/etc/agents/keyset.json`; `region`, `profile`, `endpoint_url` and
    `also_kek` are options of the URL; `context` and `client` are not.

    The encryption context of KMS binds the name and the id of the keyset, the name of the key, its time, and
    `context`. CloudTrail shows all of it in plaintext, so do not put secrets into it.

    | what | one request | needs |
    |---|---|---|
    | `unwrap`: all that a service does | Decrypt | `kms:Decrypt` |
    | `generate`: create, rotate | GenerateDataKey | `kms:GenerateDataKey` |
    | `rewrap`, also from another KMS key of the region | ReEncrypt | `kms:ReEncryptFrom`, `kms:ReEncryptTo` |
    | `rebind`: upgrade | ReEncrypt | the same |

    A keyset stores the ARN, even if an alias was given. Each request names the KMS key to use: the one given here,
    not the one that the ciphertext names. Replicas of a multi-Region key count as one key. Connecting may take 1 s
    and each part of an answer 2 s; a ready client keeps its own settings.

    Args:
        key_id: The symmetric KMS key: its id, its ARN, an alias (`alias/...`), an alias's ARN.
        region: The region; by default that of the ARN, of boto3's own settings, or AWS_REGION.
        profile: A profile of the AWS config files; by default boto3's own settings.
        endpoint_url: Another endpoint; by default boto3's own settings.
        context: A mapping of str to str, bound to every key of the keyset as long as the keyset exists.
        client: A ready boto3 client, or a function that makes one.
        also_kek: ARNs or ids of other KMS keys that may still wrap keys, while keys are being moved.
        allow_insecure: Allow an endpoint with plain http, with a warning.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: An argument is invalid.
    """

    URL_OPTIONS: ClassVar[frozenset[str]] = URL_OPTIONS | {"also_kek"}
    URL_REFUSED: ClassVar[Mapping[str, str]] = {**URL_REFUSED, "context": "pass it in code"}
    URL_EXAMPLE: ClassVar[str] = _FORM

    @redact_frames
    def __init__(
        self,
        key_id: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        context: Mapping[str, str] | None = None,
        client: Any = None,
        also_kek: str | tuple[str, ...] = (),
        allow_insecure: bool = False,
    ) -> None:
        if not isinstance(key_id, str):
            raise TypeError(f"key_id must be a str, not {type(key_id).__name__}")
        self._key = _checked_name(key_id)
        self._also = tuple(_checked_kek(text) for text in checked_keks(also_kek))
        self._context = _checked_pairs(own_context(context))
        home = self._key.home[1] if self._key.home is not None else None
        self.place = f"aws-kms:{key_id}"
        self._connection = AwsConnection(
            "kms",
            "decrypt",
            place=self.place,
            rules=_ERROR_RULES,
            home=home,
            region=region,
            profile=profile,
            endpoint_url=endpoint_url,
            client=client,
            allow_insecure=allow_insecure,
        )
        if home is not None and region is not None and region != home:
            raise ProviderConfigError(
                f"region is {region!r}, and the ARN in {self.place} is in {home}; leave region out, or give the ARN"
                " that the key has there (replicas of a multi-Region key have one in each region)"
            )

    @classmethod
    @redact_frames
    def from_options(cls, path: str, options: Mapping[str, str], *, allow_insecure: bool = False) -> AwsKmsKeyWrapper:
        """The wrapper for the parts of a URL: its path and its options, without the options of the keyset."""
        return cls(path, **arguments_from_options(options), allow_insecure=allow_insecure)

    @redact_frames
    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        """32 new random bytes from KMS, plain and wrapped. An alias is resolved: `kek` is an ARN."""
        bound, action = self._bound(context), f"making {describe_key(context)} with {self.place}"
        ask = {"KeyId": self._key.text, "KeySpec": "AES_256", "EncryptionContext": bound}
        answer = self._connection.ask(action, lambda client: client.generate_data_key(**ask))
        return _secret(answer, action), self._wrapped(answer, action)

    @redact_frames
    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """The 32 bytes, if they were wrapped under this context by this key or one of `also_kek`."""
        bound = self._bound(context)
        stored, blob = _read(wrapped, context)
        action = f"unwrapping {describe_key(context)}, which {stored} wrapped, with {self.place}"
        name = self._name_for(stored, action)
        region = self._connection.region(action)
        self._check_region(stored, region, action)
        ask = {"KeyId": name.in_region(region), "CiphertextBlob": blob, "EncryptionContext": bound}
        answer = self._connection.ask(action, lambda client: client.decrypt(**ask))
        opened_by = KmsKeyArn.read(answer.get("KeyId"))
        if opened_by is None or not opened_by.is_same_key(stored):
            raise self._refused(stored, action, f"{name.text} ({opened_by or 'a key that KMS did not name'})")
        return _secret(answer, action)

    @redact_frames
    def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
        """The same key, wrapped under the newest material of this KMS key. It stays within KMS.

        Any KMS key of this region from which this identity may re-encrypt can have wrapped it before.
        """
        bound = self._bound(context)
        stored, blob = _read(wrapped, context)
        action = f"rewrapping {describe_key(context)}, which {stored} wrapped, with {self.place}"
        region = self._connection.region(action)
        self._check_region(stored, region, action)
        source = stored.in_region(region) if region is not None and stored.is_multi_region else stored
        return self._reencrypted(stored, str(source), blob, (bound, bound), action)

    @redact_frames
    def rebind(self, wrapped: WrappedKey, old_context: Mapping[str, str], new_context: Mapping[str, str]) -> WrappedKey:
        """The same key under another context, if this key or one of `also_kek` wrapped it. It stays within KMS."""
        old, new = self._bound(old_context), self._bound(new_context)
        stored, blob = _read(wrapped, old_context)
        action = f"rebinding {describe_key(new_context)}, which {stored} wrapped, with {self.place}"
        name = self._name_for(stored, action)
        region = self._connection.region(action)
        self._check_region(stored, region, action)
        return self._reencrypted(stored, name.in_region(region), blob, (old, new), action)

    def close(self) -> None:
        """Close the connections. A ready client stays open: its owner closes it."""
        self._connection.close()

    def after_fork(self) -> None:
        """In a forked child: do not use the parent's connections. Raises ProviderConfigError for a ready client."""
        self._connection.after_fork()

    def __repr__(self) -> str:
        return f"<AwsKmsKeyWrapper {self.place}>"

    def _bound(self, context: Mapping[str, str]) -> dict[str, str]:
        return bound_context(self._context, context)

    def _reencrypted(
        self, stored: KmsKeyArn, source: str, blob: bytes, contexts: tuple[dict[str, str], dict[str, str]], action: str
    ) -> WrappedKey:
        """What the stored KMS key wrapped under the first context, under this key and the second one."""
        ask = {
            "CiphertextBlob": blob,
            "SourceKeyId": source,
            "SourceEncryptionContext": contexts[0],
            "DestinationKeyId": self._key.text,
            "DestinationEncryptionContext": contexts[1],
        }
        answer = self._connection.ask(action, lambda client: client.re_encrypt(**ask))
        opened_by = KmsKeyArn.read(answer.get("SourceKeyId"))
        if opened_by is None or not opened_by.is_same_key(stored):
            raise InvalidKeyError(
                f"{action}: KMS opened it with {opened_by or 'a key without an ARN'}; the keyset was altered:"
                " restore its last good copy"
            )
        return self._wrapped(answer, action)

    def _name_for(self, stored: KmsKeyArn, action: str) -> KmsKeyName:
        """What to call the stored key: as the settings do. An alias is tried if nothing else can mean it."""
        found = {answer: name for name in (*self._also, self._key) if (answer := name.may_be(stored)) is not False}
        name = found.get(True, found.get(None))
        if name is None:
            raise self._refused(stored, action, self._key.text)
        return name

    def _refused(self, stored: KmsKeyArn, action: str, instead: str) -> ProviderConfigError:
        also = "".join(f" or {name.text}" for name in self._also)
        return ProviderConfigError(
            f"{action}: only {instead}{also} may be used here; name the key that wrapped it, or allow it with"
            f" also_kek={stored}, or move the keyset with `encrypted-sessions keys rewrap`"
        )

    def _check_region(self, stored: KmsKeyArn, region: str | None, action: str) -> None:
        if region is None or region == stored.region or stored.is_multi_region:
            return
        raise ProviderConfigError(
            f"{action}: KMS was asked in {region}, and the key that wrapped it is not"
            f" there; set region={stored.region}, or use a multi-Region key (mrk-...) for both; to have a separate"
            f" keyset in {region}, make a new one, and give the old one to rings as also_read"
        )

    def _wrapped(self, answer: Mapping[str, Any], action: str) -> WrappedKey:
        """What KMS wrapped, under the key that it says it used."""
        kek, blob = KmsKeyArn.read(answer.get("KeyId")), answer.get("CiphertextBlob")
        if kek is None or self._key.may_be(kek) is False:
            raise InvalidKeyError(f"{action}: the answer names {kek or 'no key ARN'} instead of {self._key.text}")
        if not isinstance(blob, bytes) or not 0 < len(blob) <= _MOST_BYTES:
            raise InvalidKeyError(f"{action}: the answer has no wrapped key in it")
        return WrappedKey(str(kek), base64.b64encode(blob).decode("ascii"))


def _secret(answer: Mapping[str, Any], action: str) -> bytes:
    secret = answer.get("Plaintext")
    if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
        found = f"{len(secret)} bytes" if isinstance(secret, bytes) else "no bytes"
        raise InvalidKeyError(f"{action}: the answer has {found}, but a key has {SECRET_BYTES}")
    return secret


def _read(wrapped: WrappedKey, context: Mapping[str, str]) -> tuple[KmsKeyArn, bytes]:
    """The KMS key that wrapped it, and the bytes."""
    check_wrapped(wrapped)
    stored = KmsKeyArn.read(wrapped.kek)
    if stored is None:
        raise ProviderConfigError(
            f"{describe_key(context)} names a key-encryption key ({len(wrapped.kek)} characters) that is not the ARN"
            " of a KMS key; was it wrapped by another kind of wrapper?"
        )
    blob = _bytes_of(wrapped.ciphertext)
    if blob is None or not 0 < len(blob) <= _MOST_BYTES:
        raise InvalidKeyError(
            f"the wrapped bytes of {describe_key(context)} ({len(wrapped.ciphertext)} characters) are not base64"
            " text that KMS could have produced; restore the keyset's last good copy"
        )
    return stored, blob


def _bytes_of(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None


@redact_frames
def _checked_name(key_id: str) -> KmsKeyName:
    name = KmsKeyName.read(key_id)
    if name is not None:
        return name
    try:
        decode_key_text(key_id)
    except InvalidKeyError:
        pass
    else:
        raise ProviderConfigError(
            f"a secret key was given instead of the name of a KMS key; KMS makes the keys of a keyset itself,"
            f" so name the KMS key, as in {_FORM}"
        )
    raise ProviderConfigError(
        f"key_id ({len(key_id)} characters) is neither an id nor an ARN of a KMS key, nor an alias, which begins with"
        f" alias/, as in {_FORM}"
    )


def _checked_kek(text: str) -> KmsKeyName:
    name = KmsKeyName.read(text)
    if name is None or "alias/" in text:
        raise ProviderConfigError(
            f"also_kek has one ({len(text)} characters) that is neither an ARN nor an id of a KMS key; write it as"
            " `encrypted-sessions keys list` shows it"
        )
    return name


def _checked_pairs(context: dict[str, str]) -> dict[str, str]:
    if not all(context) or not all(context.values()):
        raise ProviderConfigError("context has an empty name or value, which KMS does not accept; leave it out")
    return context
