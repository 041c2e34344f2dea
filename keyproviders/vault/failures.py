"""What a Vault or OpenBao server, or the way to it, can answer: translated here and nowhere else."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from .._support.extras import import_sdk
from .._support.text import single_line
from ..errors import KeyAccessDeniedError, KeyProviderError, KeyUnavailableError, ProviderConfigError
from .address import RefusedRedirectError
from .settings import Endpoint
from .transport import RefusedAnswerError

__all__ = ["Answer", "client_failure", "failure_of", "is_wrong_route", "time_of", "transport_failure"]

# Statuses after which the same request may succeed later: 412 (a replica that lags behind), 472 and
# 473 (standbys), 503 (sealed), and what a proxy in front says.
_TRANSIENT = frozenset({408, 412, 425, 429, 472, 473})
_SETTING = frozenset({501})
_DENIED = frozenset({401, 403})

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)\Z")

_LONGEST_WAIT_S = 86_400.0

# OpenSSL's words for a connection that ended in the middle: an outage, not a mistake in a setting.
_BROKEN_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class Answer:
    """One answer of the server: its status, its body as an object, and its errors as text."""

    __slots__ = ("_sent", "body", "is_json", "retry_after_s", "status")

    def __init__(self, status: int, body: object, retry_after: str | None = None, *, sent: str = "") -> None:
        self.status = status
        self._sent = sent
        self.is_json = isinstance(body, dict)
        self.body: Mapping[str, Any] = body if isinstance(body, dict) else {}
        self.retry_after_s = _seconds(retry_after)

    @classmethod
    def of(cls, response: Any, sent: str) -> Answer:
        """Of what an adapter of hvac returns: a `requests` response, or the body of a 200 by itself.

        `sent` is the token that was sent, which no word of the answer may repeat.
        """
        if isinstance(response, dict):
            return cls(200, response, sent=sent)
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = None
        return cls(response.status_code, body, response.headers.get("Retry-After"), sent=sent)

    @property
    def ok(self) -> bool:
        """Whether the server did what was asked."""
        return 200 <= self.status < 300

    @property
    def denied(self) -> bool:
        """Whether another token might change the answer."""
        return self.status in _DENIED

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _TRANSIENT or (self.status >= 500 and self.status not in _SETTING)

    def part(self, *names: str) -> Mapping[str, Any]:
        """The object at this place in the body, or an empty one."""
        found: Any = self.body
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def error_text(self, hide: Iterable[str] = ()) -> str:
        """The server's own errors in one line, without the token that was sent and the secrets in `hide`."""
        errors = self.body.get("errors")
        detail = "; ".join(str(one) for one in errors) if isinstance(errors, list) else ""
        for secret in (self._sent, *hide):
            if secret:
                detail = detail.replace(secret, "...")
        return single_line(detail)


def is_wrong_route(answer: Answer) -> bool:
    """Whether a 404 says that there is nothing at this place at all: no such mount or namespace."""
    detail = answer.error_text()
    return any(sign in detail for sign in ("no handler for route", "route entry not found", "namespace not found"))


def time_of(text: object) -> datetime | None:
    """RFC 3339 with up to nine digits of a second, as the server writes it."""
    found = _TIME.match(text) if isinstance(text, str) else None
    if found is None:
        return None
    fraction = (found[2] or "").ljust(6, "0")[:6]
    zone = "+00:00" if found[3] == "Z" else found[3]
    try:
        return datetime.fromisoformat(f"{found[1]}.{fraction}{zone}").astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def failure_of(
    answer: Answer, action: str, endpoint: str, *, login: bool = False, advice: str = "", hide: Iterable[str] = ()
) -> KeyProviderError:
    """The error that an answer stands for, which is none of those that the caller can read itself.

    `action` says what was asked for, as in "reading secret/agents"; `login` tells that a 400 is
    about a credential; `advice` is what to do about a denial.
    """
    detail = answer.error_text(hide) or "no message"
    message = f"{action} at {endpoint}: the server answered {answer.status} ({detail})"
    status = answer.status
    if answer.denied or (login and status == 400):
        return KeyAccessDeniedError(message + (f"; {advice}" if advice else ""))
    if answer.transient:
        return KeyUnavailableError(message, retry_after_s=answer.retry_after_s)
    if status == 404 and is_wrong_route(answer):
        return ProviderConfigError(f"{message}; check the mount, the namespace and the address")
    if answer.ok:
        return ProviderConfigError(
            f"{action} at {endpoint}: the answer is not a valid Vault or OpenBao response; check the address"
        )
    return ProviderConfigError(f"{message}; a retry will not help: check the address and the settings")


def transport_failure(error: OSError | ValueError, action: str, endpoint: Endpoint) -> KeyProviderError:
    """The error for a request that got no answer.

    None of `error`'s own words are shown: they can hold the password of a proxy.
    """
    exceptions = import_sdk("requests.exceptions", "vault")
    message = f"{action} at {endpoint.label}"
    refused = _first(error, RefusedAnswerError) or _first(error, RefusedRedirectError)
    if refused is not None:
        return ProviderConfigError(f"{message}: {refused}")
    # A TLS failure is a ConnectionError too, so it is told apart first.
    tls = _first(error, ssl.SSLError)
    if isinstance(error, exceptions.SSLError) or tls is not None:
        return _tls_failure(tls, message, endpoint)
    if isinstance(error, exceptions.Timeout) or _first(error, TimeoutError) is not None:
        what, which = ("connection", 0) if isinstance(error, exceptions.ConnectTimeout) else ("answer", 1)
        within = f"within {endpoint.timeouts[which]:g} s" if endpoint.timeouts else "in time"
        return KeyUnavailableError(f"{message}: no {what} {within}")
    if isinstance(error, ValueError):
        return ProviderConfigError(f"{message}: {type(error).__name__}; check the address and the settings of proxies")
    if isinstance(error, exceptions.RequestException):
        return KeyUnavailableError(f"{message}: {_reason(error)}")
    # What requests does not wrap: a file of certificates that is not there.
    return ProviderConfigError(
        f"{message}: a file of certificates cannot be read; the CA is {endpoint.ca_label}"
        + (f", the client certificate {endpoint.client_cert}" if endpoint.client_cert else "")
    )


def client_failure(error: Exception, action: str) -> KeyProviderError:
    """The error for one of hvac's, whose class is all that is left of the status.

    Only where somebody else's code used hvac: in the function that makes a ready client.
    """
    name = type(error).__name__
    message = f"{action}: {name} ({Answer(0, {'errors': [str(error)]}).error_text()})"
    if name in {"InvalidRequest", "Unauthorized", "Forbidden"}:
        return KeyAccessDeniedError(f"{message}; check the credential that it logs in with")
    if name in {"InvalidPath", "UnsupportedOperation", "ParamValidationError"}:
        return ProviderConfigError(f"{message}; check the login that it uses")
    return KeyUnavailableError(message)


def _tls_failure(tls: BaseException | None, message: str, endpoint: Endpoint) -> KeyProviderError:
    if isinstance(tls, ssl.SSLCertVerificationError):
        return ProviderConfigError(
            f"{message}: its certificate was not accepted ({tls.verify_message}); it was checked"
            f" against {endpoint.ca_label}; set ca_cert or VAULT_CACERT to the CA that signed it"
        )
    if isinstance(tls, _BROKEN_OFF):
        return KeyUnavailableError(f"{message}: the connection ended while it was being set up")
    reason = getattr(tls, "reason", None) or "no reason given"
    return ProviderConfigError(
        f"{message}: TLS failed ({reason}); the CA is {endpoint.ca_label}; check that the address uses https"
        + ("" if endpoint.client_cert else ", and whether it requires a client certificate (client_cert, client_key)")
    )


def _reason(error: BaseException) -> str:
    names = {type(one).__name__ for one in _chain(error)}
    if names & {"NameResolutionError", "gaierror"}:
        return "the name of the host was not found"
    inner = [one for one in _chain(error) if isinstance(one, OSError) and one.errno is not None and one.strerror]
    if inner:
        return str(inner[-1].strerror).lower()
    if "ProxyError" in names:
        return "the proxy did not accept the connection"
    return "the connection was lost"


def _first(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    return next((one for one in _chain(error) if isinstance(one, kind)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with everything that it wraps: libraries keep that in several places."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting.extend((*one.args, getattr(one, "reason", None), one.__cause__, one.__context__))


def _seconds(retry_after: str | None) -> float | None:
    """The header Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return min(float(retry_after), _LONGEST_WAIT_S)
    try:
        wait_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, wait_s), _LONGEST_WAIT_S)
