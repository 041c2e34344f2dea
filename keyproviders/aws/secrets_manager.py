"""Keys in AWS Secrets Manager: each version of a secret is a key."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

from .._support.redaction import redact_frames
from .._support.urls import split_url
from ..errors import InvalidKeyError, KeyDisabledError, KeyNotFoundError, ProviderConfigError
from ..key import SECRET_BYTES, Key, decode_key_text, is_key_name
from ..secret_fields import read_field, read_text
from .connection import URL_OPTIONS, URL_REFUSED, AwsConnection, check_text
from .sdk import ErrorRule

__all__ = ["AwsSecretsManagerKeyProvider"]

_FORM = "aws-secretsmanager:prod/agents/session-key"
_SECRET_ID = re.compile(r"[A-Za-z0-9/_+=.@:!-]{1,2048}\Z")
_ARN = re.compile(r"arn:[a-z-]+:secretsmanager:([a-z0-9-]+):\d{12}:secret:.+\Z")

_ERROR_RULES = (
    ErrorRule("ResourceNotFound", KeyNotFoundError, "check the name, the region and the account"),
    ErrorRule("InvalidRequest", KeyDisabledError, "aws secretsmanager restore-secret brings it back", mentions="delet"),
)


class AwsSecretsManagerKeyProvider:
    """The versions of one secret: `AwsSecretsManagerKeyProvider("prod/agents/session-key")`.

    As a URL: `aws-secretsmanager:prod/agents/session-key?region=eu-central-1`, with a name or an ARN. The other
    arguments, except `client` and `allow_insecure`, are options of the URL.

    The active key is the version with the label AWSCURRENT; the name of a key is its VersionId. The secret is the key
    as base64, or a JSON object with the key in `field` (by default in `key`, or in the only field), or 32 bytes of
    SecretBinary.

    The identity needs `secretsmanager:GetSecretValue` on the secret, and `kms:Decrypt` if a customer managed key
    encrypts it. Each call is one GetSecretValue. Connecting may take 1 s and each part of an answer 2 s; a ready
    client keeps its own settings.

    Args:
        secret_id: Name or ARN of the secret.
        field: The field of a JSON secret; by default `key`, or the only field.
        region: The region; by default that of the ARN, of boto3's own settings, or AWS_REGION.
        profile: A profile of the AWS config files; by default boto3's own settings.
        endpoint_url: Another endpoint; by default boto3's own settings.
        client: A ready boto3 client, or a function that makes one.
        allow_insecure: Allow an endpoint with plain http, with a warning.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: An argument is invalid.
    """

    @redact_frames
    def __init__(
        self,
        secret_id: str,
        *,
        field: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        client: Any = None,
        allow_insecure: bool = False,
    ) -> None:
        if not isinstance(secret_id, str):
            raise TypeError(f"secret_id must be a str, not {type(secret_id).__name__}")
        check_text("field", field)
        _check_secret_id(secret_id)
        arn = _ARN.match(secret_id)
        self._secret_id = secret_id
        self._field = field
        self.place = f"aws-secretsmanager:{secret_id}"
        self._connection = AwsConnection(
            "secretsmanager",
            "get_secret_value",
            place=self.place,
            rules=_ERROR_RULES,
            home=arn[1] if arn else None,
            region=region,
            profile=profile,
            endpoint_url=endpoint_url,
            client=client,
            allow_insecure=allow_insecure,
        )

    @classmethod
    @redact_frames
    def from_url(cls, url: str, *, allow_insecure: bool = False) -> AwsSecretsManagerKeyProvider:
        """The provider of an `aws-secretsmanager:` URL. Raises ProviderConfigError."""
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        secret_id, options = split_url(url, options=URL_OPTIONS | {"field"}, refused=URL_REFUSED, form=_FORM)
        given: dict[str, Any] = {**options, "allow_insecure": allow_insecure}
        return cls(secret_id, **given)

    @redact_frames
    def active(self) -> Key:
        """The version with the label AWSCURRENT."""
        return self._fetch({"VersionStage": "AWSCURRENT"})

    @redact_frames
    def get(self, name: str) -> Key:
        """The version of that VersionId."""
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if not 32 <= len(name) <= 64 or not is_key_name(name):
            raise KeyNotFoundError(
                f"{self.place} has no key of that name: its names are VersionIds of 32 to 64"
                " characters, so it was not asked"
            )
        return self._fetch({"VersionId": name})

    def close(self) -> None:
        """Close the connections. A ready client stays open: its owner closes it."""
        self._connection.close()

    def after_fork(self) -> None:
        """In a forked child: do not use the parent's connections.

        Raises ProviderConfigError for a ready client, which only its owner can create again.
        """
        self._connection.after_fork()

    def __repr__(self) -> str:
        return f"<AwsSecretsManagerKeyProvider {self.place}>"

    def _fetch(self, which: dict[str, str]) -> Key:
        action = (
            f"reading version {which['VersionId']} of {self.place}" if "VersionId" in which else f"reading {self.place}"
        )
        ask = {"SecretId": self._secret_id, **which}
        answer = self._connection.ask(action, lambda client: client.get_secret_value(**ask))
        version = str(answer.get("VersionId", ""))
        if not version:
            raise ProviderConfigError(
                f"{action}: the answer is not a valid Secrets Manager response; check the endpoint"
            )
        if version != which.get("VersionId", version):
            raise InvalidKeyError(f"{self.place} was asked for version {which['VersionId']} and returned another one")
        return self._key(version, answer)

    def _key(self, version: str, answer: dict[str, Any]) -> Key:
        if not is_key_name(version):
            raise InvalidKeyError(
                f"a version of {self.place} has an id of {len(version)} characters that cannot be a key's name; write"
                " one with an id of A-Z a-z 0-9 . _ - (Secrets Manager makes such ids itself)"
            )
        secret = self._secret(answer, f"version {version} of {self.place}")
        created = answer.get("CreatedDate")
        return Key(version, secret, created.astimezone(timezone.utc) if isinstance(created, datetime) else None)

    def _secret(self, answer: dict[str, Any], where: str) -> bytes:
        text, raw = answer.get("SecretString"), answer.get("SecretBinary")
        if text is None:
            if not isinstance(raw, bytes) or not raw:
                raise InvalidKeyError(f"{where} is not a key: it is empty")
            if len(raw) == SECRET_BYTES and self._field is None:
                return raw
            text = _as_text(raw)
            if text is None:
                raise InvalidKeyError(
                    f"{where} is not a key: its {len(raw)} bytes are neither the {SECRET_BYTES} of a key nor text"
                )
        if not isinstance(text, str):
            raise InvalidKeyError(f"{where} is not a key: it is not text")
        if self._field is None and not text.lstrip().startswith("{"):
            return read_text(text, where)
        fields = _as_object(text)
        if fields is None:
            wanted = f", so it has no field {self._field!r}" if self._field is not None else ""
            raise InvalidKeyError(f"{where} is not a key: its {len(text)} characters are not a JSON object{wanted}")
        return read_field(fields, self._field, where)


@redact_frames
def _check_secret_id(secret_id: str) -> None:
    if not _SECRET_ID.match(secret_id):
        raise ProviderConfigError(
            f"secret_id ({len(secret_id)} characters) is neither a name nor an ARN of a secret; write it as in {_FORM}"
        )
    try:
        decode_key_text(secret_id)
    except InvalidKeyError:
        return
    raise ProviderConfigError(
        f"a key was given instead of the name of a secret; put the key into Secrets Manager, and give the"
        f" name of the secret, as in {_FORM}; if this really is its name, give the secret's ARN"
    )


def _as_text(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _as_object(text: str) -> dict[str, object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
