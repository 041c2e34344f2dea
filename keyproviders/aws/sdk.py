"""botocore as every part here uses it, and what it raises, translated in this one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .._support.extras import import_sdk
from .._support.redaction import redact_frames
from .._support.sdk_logging import quiet_sdk_logs
from .._support.text import single_line
from ..errors import KeyAccessDeniedError, KeyProviderError, KeyUnavailableError, ProviderConfigError

__all__ = ["CredentialsExpiredError", "ErrorRule", "botocore_session", "region_of", "translating_errors"]

_CONNECT_TIMEOUT_S = 1.0
_READ_TIMEOUT_S = 2.0

_LONGEST_CODE = 100

_Answer = TypeVar("_Answer")

# The beginnings of error codes. Services spell the same thing in several ways.
_TRANSIENT = (
    "Throttl",
    "TooManyRequests",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "RequestTimeout",
    "InternalServiceError",
    "InternalFailure",
    "InternalError",
    "ServiceUnavailable",
    "IDPCommunicationError",
)
_EXPIRED = ("ExpiredToken", "RequestExpired", "TokenRefreshRequired")
_DENIED = (
    "AccessDenied",
    "UnrecognizedClient",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "InvalidIdentityToken",
    "IDPRejectedClaim",
    "OptInRequired",
)

# By the names of botocore's exceptions, some of which only newer releases have.
_NO_ANSWER = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "ProxyConnectionError",
    "ResponseStreamingError",
    "CredentialRetrievalError",
    "MetadataRetrievalError",
    "ConnectionError",
    "HTTPClientError",
)
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "TokenRetrievalError",
    "SSOError",
    "LoginError",
    "NoAuthTokenError",
)


# What botocore's parser raises for a body that is not built as the service builds it.
_UNPARSED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)

# The services that credentials themselves come from.
_SOURCES = ("sts", "sso", "sso-oidc")


class CredentialsExpiredError(KeyAccessDeniedError):
    """The credentials were good once: newer ones may be at hand."""


class ErrorRule(NamedTuple):
    """Which error a code of one service is: codes that begin so, and where `mentions` is given, with that word."""

    code: str
    error: type[KeyProviderError]
    advice: str
    mentions: str = ""


def botocore_session(profile: str | None = None, check: Callable[[str], None] | None = None) -> Any:
    """A session with botocore's own chain of credentials and settings, our time-outs, and no retries.

    They hold for every client made from it, also for those that the chain makes itself, such as the
    one that asks STS for the credentials of a role. `check` is called with the URL of each such
    request for credentials, and raises if it may not be sent.
    """
    config = import_sdk("botocore.config", "aws").Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    session = import_sdk("botocore.session", "aws").Session(profile=profile)
    session.set_default_client_config(config)

    def check_source(request: Any, **_: Any) -> None:
        if check is not None:
            check(request.url)

    for service in _SOURCES:
        session.register(f"before-send.{service}", check_source)
    return session


def region_of(session: Any, given: str | None) -> str | None:
    """The region: the given one, else botocore's own setting, else AWS_REGION.

    Lambda, ECS and EKS set that last one for every program, and botocore does not read it.
    """
    return given or session.get_config_variable("region") or os.environ.get("AWS_REGION") or None


@redact_frames
def translating_errors(
    action: str, call: Callable[[], _Answer], rules: tuple[ErrorRule, ...] = (), *, is_request: bool = False
) -> _Answer:
    """The answer of `call`, which uses botocore; what botocore raises becomes one of our errors.

    `rules` are those of the service; they come before what codes mean everywhere. With
    `is_request` nothing but a request is made in it, so any error is one of botocore's. The error
    that is raised has no context: the frames of botocore hold credentials and answers. Nor does
    botocore log them meanwhile.
    """
    exceptions = import_sdk("botocore.exceptions", "aws")
    unreadable = import_sdk("botocore.parsers", "aws").ResponseParserError
    failure: KeyProviderError
    try:
        with quiet_sdk_logs():
            return call()
    except exceptions.ClientError as error:
        failure = _refused(error.response, action, rules)
    except exceptions.BotoCoreError as error:
        failure = _failed(error, action)
    except KeyProviderError as error:
        failure = error.with_traceback(None)
    except unreadable:
        # Of a service that speaks XML, such as STS: what a proxy says when it cannot reach it.
        failure = KeyUnavailableError(f"{action}: the answer is not a valid AWS response")
    except _UNPARSED as error:
        if not is_request:
            raise
        failure = ProviderConfigError(
            f"{action}: the answer is not a valid AWS response ({type(error).__name__}); check the endpoint"
        )
    raise failure


def _refused(response: dict[str, Any], action: str, rules: tuple[ErrorRule, ...]) -> KeyProviderError:
    """What an error code of a service means."""
    error, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = single_line(error.get("Code", ""), _LONGEST_CODE), metadata.get("HTTPStatusCode") or 0
    detail = single_line(error.get("Message", "")) or "without words"
    message = f"{action}: AWS answered {code or 'no code'} ({status}: {detail})"
    for rule in rules:
        if code.startswith(rule.code) and rule.mentions in detail.lower():
            return rule.error(f"{message}{rule.advice and '; '}{rule.advice}")
    if code.startswith(_EXPIRED):
        return CredentialsExpiredError(f"{message}; renew the credentials of this process")
    if code.startswith(_TRANSIENT) or status >= 500 or status == 429:
        return KeyUnavailableError(message)
    if code.startswith(_DENIED):
        return KeyAccessDeniedError(f"{message}; check the identity of this process, its policy and its clock")
    return ProviderConfigError(f"{message}; a retry will not help: check the settings")


def _failed(error: Exception, action: str) -> KeyProviderError:
    """What it means when botocore itself gave up. Its own words are shown only where they hold no secret."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    name = type(error).__name__
    # A TLS failure is a ConnectionError too, so it is told apart first.
    if "SSLError" in kinds:
        if "EOF occurred" in str(error):
            return KeyUnavailableError(f"{action}: the connection ended while it was being set up")
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            return ProviderConfigError(f"{action}: TLS could not be set up; does the endpoint use https?")
        ca = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        return ProviderConfigError(
            f"{action}: the certificate was not accepted; it was checked"
            f" against {ca or 'the public CAs that come with botocore, or ca_bundle of the AWS config file'}; set"
            " AWS_CA_BUNDLE to the CA that signed it"
        )
    if kinds.intersection(_NO_ANSWER):
        timeouts = {
            "ConnectTimeoutError": f"no connection within {_CONNECT_TIMEOUT_S:g} s",
            "ReadTimeoutError": f"no answer within {_READ_TIMEOUT_S:g} s",
        }
        return KeyUnavailableError(f"{action}: {timeouts.get(name, name)}")
    if kinds.intersection(_NO_CREDENTIALS):
        return KeyAccessDeniedError(
            f"{action}: botocore found no usable AWS credentials ({name}); give this process a role, a profile or"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if name == "NoRegionError":
        return ProviderConfigError(
            f"{action}: no AWS region is set; give region=, or set AWS_REGION or AWS_DEFAULT_REGION"
        )
    return ProviderConfigError(f"{action}: {name}; check the settings for AWS")
