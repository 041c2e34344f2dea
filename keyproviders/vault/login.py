"""The ways to a token, by the name of `auth=`."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol
from urllib.parse import quote

from .._support.files import read_file
from .._support.redaction import redact_frames
from .._support.strictness import is_strict
from ..errors import KeyUnavailableError, ProviderConfigError
from .failures import Answer, failure_of
from .settings import from_environment

__all__ = ["METHODS", "Login", "Send", "TokenLease", "login_for", "seconds_of"]

_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_TOKEN_FILE = "~/.vault-token"  # noqa: S105 - the name of the file where the servers' programs leave a token

_LONGEST_S = 10**9
# No token or id comes near, and no header is longer.
_MOST_CHARACTERS = 65_536

METHODS = ("token", "token-file", "agent", "approle", "kubernetes", "jwt", "aws")

# Which arguments belong to which method: one that is not used is a mistake.
_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "token": frozenset({"token"}),
    "token-file": frozenset({"token_file"}),
    "agent": frozenset(),
    "approle": frozenset({"auth_mount", "role_id", "role_id_file", "secret_id", "secret_id_file"}),
    "kubernetes": frozenset({"auth_mount", "role", "jwt_file"}),
    "jwt": frozenset({"auth_mount", "role", "jwt_file"}),
    "aws": frozenset({"auth_mount", "role", "aws_region", "aws_server_id"}),
}


class Send(Protocol):
    """One request to the server; raises only for what got no answer."""

    def __call__(
        self, method: str, path: str, *, action: str, token: str = "", body: Mapping[str, Any] | None = None
    ) -> Answer:
        """The answer, whatever its status."""
        ...


def seconds_of(value: object) -> float:
    """A length of time in an answer; 0 for what is none. What is absurdly long is cut."""
    return float(min(value, _LONGEST_S)) if isinstance(value, (int, float)) and value > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TokenLease:
    """A token as it was granted, and its life in seconds, 0 when it has no known end."""

    value: str = field(repr=False)
    duration_s: float = 0.0
    renewable: bool = field(default=False, kw_only=True)

    @classmethod
    def of(cls, answer: Answer) -> TokenLease | None:
        """The one in the answer to a login or a renewal, if it has one."""
        auth = answer.part("auth")
        value = auth.get("client_token")
        if not answer.ok or not isinstance(value, str) or not value or not _fits_header(value):
            return None
        return cls(value, seconds_of(auth.get("lease_duration")), renewable=auth.get("renewable") is True)


class Login(abc.ABC):
    """A way to get a token. `label` names it in messages."""

    label: str
    #: Whether each login brings a token of a new life.
    brings_new = False
    #: Whether the token is read anew before every request, which costs no request of its own.
    reads_each_time = False
    #: What becomes of the token of an idle process, as a sentence; None where only the server knows.
    keeping: str | None = None

    @abc.abstractmethod
    def log_in(self, send: Send, server: str, /) -> TokenLease:
        """A token. Raises KeyAccessDeniedError, KeyUnavailableError or ProviderConfigError."""


class GivenToken(Login):
    """A token from an argument, a variable, or the file that a command-line login leaves behind."""

    def __init__(self, token: str | None) -> None:
        self._token = token or from_environment("TOKEN")
        self._file = _SecretFile(_TOKEN_FILE, "no token: set VAULT_TOKEN (or BAO_TOKEN), or choose another auth=")
        if token:
            self.label = "the token given in code"
        elif self._token:
            self.label = "the token of VAULT_TOKEN or BAO_TOKEN"
        else:
            self.label = f"the token of {_TOKEN_FILE}"

    @redact_frames
    def log_in(self, send: Send, server: str, /) -> TokenLease:
        """The token, with what it says of its own life: the one request that tells it."""
        value = self._token or self._file.read()
        _check_header(value, self.label)
        action = f"looking up {self.label}"
        answer = send("get", "/v1/auth/token/lookup-self", action=action, token=value)
        if answer.transient:
            raise failure_of(answer, action, server, hide=(value,))
        # Its policy may keep a token from looking at itself. Whether it is good, the read will say.
        data = answer.part("data") if answer.ok else {}
        return TokenLease(value, seconds_of(data.get("ttl")), renewable=data.get("renewable") is True)


class TokenFile(Login):
    """A file that an agent keeps fresh. It is read before each request, so a new token counts at once."""

    reads_each_time = True

    def __init__(self, token_file: str | None) -> None:
        if not token_file:
            raise ProviderConfigError("auth=token-file needs token_file=, the file that an agent writes its token to")
        self._file = _SecretFile(
            token_file, "check that the agent is running, and that this process may read its file", may_come=True
        )
        self.label = f"the token of {token_file}"
        self.keeping = (
            f"The token is read from {token_file} before each request; whatever writes that file has to renew it."
        )

    @redact_frames
    def log_in(self, _send: Send, _server: str, /) -> TokenLease:
        """The token that is in the file now."""
        value = self._file.read()
        _check_header(value, self.label)
        return TokenLease(value)


class Agent(Login):
    """A proxy on this machine that adds the token itself."""

    label = "the agent's own token"
    keeping = "The agent adds its own token and renews it."

    def log_in(self, _send: Send, _server: str, /) -> TokenLease:
        """No token at all."""
        return TokenLease("")


class _PostedLogin(Login):
    """A login that posts a credential and is given a token."""

    advice: str
    brings_new = True

    def __init__(self, method: str, auth_mount: str | None) -> None:
        mount = (auth_mount or method).strip("/")
        if not mount or any(part in {"", ".", ".."} for part in mount.split("/")):
            raise ProviderConfigError(f"auth_mount is not the path of a login ({len(mount)} characters)")
        self._path = f"/v1/auth/{quote(mount, safe='/')}/login"
        self.label = f"the {method} login at auth/{mount}"
        self.keeping = (
            f"The token comes from {self.label}: a process that was idle for longer than its lifetime gets a new one."
        )

    @abc.abstractmethod
    def _credential(self) -> dict[str, Any]:
        """What is posted, read anew."""

    def _secrets(self, credential: Mapping[str, Any]) -> Iterable[str]:
        return [one for one in credential.values() if isinstance(one, str) and len(one) >= 8]

    @redact_frames
    def log_in(self, send: Send, server: str, /) -> TokenLease:
        """One request; what the server says of the credential is the message."""
        credential = self._credential()
        answer = send("post", self._path, action=self.label, body=credential)
        lease = TokenLease.of(answer)
        if lease is None:
            _refuse_login(answer, self.label, server, self.advice, self._secrets(credential))
        return lease


class AppRole(_PostedLogin):
    """A role id and a secret id, each from an argument, a file or a variable."""

    advice = "check the role id and the secret id: the secret id may have expired, or all of its uses may be spent"

    def __init__(
        self,
        auth_mount: str | None,
        *,
        role_id: str | None,
        role_id_file: str | None,
        secret_id: str | None,
        secret_id_file: str | None,
    ) -> None:
        super().__init__("approle", auth_mount)
        self._role_id = _from_somewhere("role_id", role_id, role_id_file, "ROLE_ID")
        # A role may do without a secret id; the server says so if it does not.
        self._secret_id = _from_somewhere("secret_id", secret_id, secret_id_file, "SECRET_ID")
        if self._role_id is None:
            raise ProviderConfigError("auth=approle needs a role id: role_id=, role_id_file=, or VAULT_ROLE_ID")

    def _credential(self) -> dict[str, Any]:
        credential = {"role_id": self._role_id() if self._role_id else ""}
        if self._secret_id is not None:
            credential["secret_id"] = self._secret_id()
        return credential

    def _secrets(self, credential: Mapping[str, Any]) -> Iterable[str]:
        return [credential["secret_id"]] if "secret_id" in credential else []


class Jwt(_PostedLogin):
    """The token of a service account, or any other JSON Web Token, read from a file at each login."""

    def __init__(self, method: str, auth_mount: str | None, *, role: str | None, jwt_file: str | None) -> None:
        super().__init__(method, auth_mount)
        if method == "kubernetes":
            jwt_file = jwt_file or _SERVICE_ACCOUNT
            if not role:
                raise ProviderConfigError("auth=kubernetes needs role=, the role of the login")
        if not jwt_file:
            raise ProviderConfigError("auth=jwt needs jwt_file=, the file with the token to log in with")
        self._role, self._file = role, _SecretFile(jwt_file, "it holds the token to log in with")
        self.advice = f"check the role and the token in {jwt_file}"

    def _credential(self) -> dict[str, Any]:
        credential = {"jwt": self._file.read()}
        if self._role:
            credential["role"] = self._role
        return credential

    def _secrets(self, credential: Mapping[str, Any]) -> Iterable[str]:
        return [credential["jwt"]]


class AwsIam(_PostedLogin):
    """A signed question to AWS STS about who we are, which the server asks in our place."""

    advice = "check the role, the AWS identity of this process, and aws_server_id"

    def __init__(
        self, auth_mount: str | None, *, role: str | None, aws_region: str | None, aws_server_id: str | None
    ) -> None:
        super().__init__("aws", auth_mount)
        self._role, self._region, self._server_id = role, aws_region, aws_server_id

    def _credential(self) -> dict[str, Any]:
        from .aws_identity import signed_identity  # noqa: PLC0415 - only this login needs AWS

        credential = signed_identity(self._region, self._server_id)
        if self._role:
            credential["role"] = self._role
        return credential


@redact_frames
def login_for(auth: str | None, given: Mapping[str, str | None]) -> Login:
    """The login of `auth=` with its arguments. Nothing is sent or read from files yet.

    Raises ProviderConfigError for an unknown method, and for arguments that are missing or that
    belong to another method.
    """
    method = auth or "token"
    if method not in _ARGUMENTS:
        raise ProviderConfigError(
            f"auth is not a known method ({len(method)} characters); use one of {', '.join(METHODS)}; for"
            " any other method give a client= that is logged in"
        )
    for name, value in given.items():
        if value is not None and name not in _ARGUMENTS[method]:
            owners = [one for one in METHODS if name in _ARGUMENTS[one]]
            raise ProviderConfigError(f"{name} has no effect with auth={method}; it belongs to {' or '.join(owners)}")
    if method == "token":
        return GivenToken(given["token"])
    if method == "token-file":
        return TokenFile(given["token_file"])
    if method == "agent":
        return Agent()
    if method == "approle":
        return AppRole(
            given["auth_mount"],
            role_id=given["role_id"],
            role_id_file=given["role_id_file"],
            secret_id=given["secret_id"],
            secret_id_file=given["secret_id_file"],
        )
    if method == "aws":
        return AwsIam(
            given["auth_mount"],
            role=given["role"],
            aws_region=given["aws_region"],
            aws_server_id=given["aws_server_id"],
        )
    return Jwt(method, given["auth_mount"], role=given["role"], jwt_file=given["jwt_file"])


def _refuse_login(answer: Answer, label: str, server: str, advice: str, hide: Iterable[str]) -> NoReturn:
    if answer.ok and answer.part("auth").get("mfa_requirement"):
        raise ProviderConfigError(f"{label} at {server} requires a second factor; give a client= that is logged in")
    raise failure_of(answer, label, server, login=True, advice=advice, hide=hide)


def _from_somewhere(name: str, value: str | None, file: str | None, variable: str) -> Callable[[], str] | None:
    if value and file:
        raise ProviderConfigError(f"{name} and {name}_file were both given; give one")
    if file:
        return _SecretFile(file, f"it holds the {name}").read
    found = value or from_environment(variable)
    return (lambda: found) if found else None


class _SecretFile:
    """A file with a token or a credential, which is read anew each time.

    One that is not there or is empty is a wrong setting, or with `may_come` an outage: whoever
    writes it may be about to.
    """

    def __init__(self, path: str, otherwise: str, *, may_come: bool = False) -> None:
        self._path = path
        self._otherwise = otherwise
        self._may_come = may_come
        self._strict = is_strict()

    @redact_frames
    def read(self) -> str:
        """Its stripped text. Raises ProviderConfigError or KeyUnavailableError."""
        path = os.path.expanduser(self._path)  # noqa: PTH111 - the text of a path, as it is shown
        text, problem, comes = "", "is empty", self._may_come
        try:
            content = read_file(path, _MOST_CHARACTERS + 1, what="a credential", secret=True, strict=self._strict)
            text = content.decode("utf-8").strip()
        except FileNotFoundError:
            problem = "does not exist"
        except (OSError, UnicodeDecodeError) as error:
            problem, comes = f"cannot be read ({getattr(error, 'strerror', None) or 'it is not UTF-8'})", False
        if len(text) > _MOST_CHARACTERS:
            text, problem, comes = "", f"is larger than {_MOST_CHARACTERS} characters", False
        if text:
            return text
        if comes:
            raise KeyUnavailableError(f"{path} {problem} (yet); {self._otherwise}")
        raise ProviderConfigError(f"{path} {problem}; {self._otherwise}")


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value


def _check_header(value: str, label: str) -> None:
    """Refuse what no header can hold: the HTTP client would show it in its own error."""
    if not _fits_header(value):
        raise ProviderConfigError(
            f"{label} is not a token: it has {len(value)} characters, some of which cannot be in a token"
        )
