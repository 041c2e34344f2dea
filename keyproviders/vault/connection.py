"""One connection to a Vault or OpenBao server: requests that carry a good token, and answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._support.extras import import_sdk
from .._support.redaction import redact_frames
from .._support.sdk_logging import quiet_sdk_logs
from .._support.strictness import checked_allow_insecure, is_strict
from .._support.transport_security import is_insecure
from ..errors import KeyProviderError, ProviderConfigError
from .address import RefusedRedirectError, redirect_target
from .failures import Answer, client_failure, transport_failure
from .login import Login, login_for
from .settings import Endpoint, read_endpoint, refuse_encrypted_key
from .token import ReloginGuard, Token, TokenManager
from .transport import bound

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import TypedDict

    class ConnectionOptions(TypedDict, total=False):
        """The arguments of a connection, which every provider on it takes."""

        address: str | None
        also_address: str | Sequence[str]
        namespace: str | None
        auth: str | None
        auth_mount: str | None
        token: str | None
        token_file: str | PathLike[str] | None
        role: str | None
        role_id: str | None
        role_id_file: str | PathLike[str] | None
        secret_id: str | None
        secret_id_file: str | PathLike[str] | None
        jwt_file: str | PathLike[str] | None
        aws_region: str | None
        aws_server_id: str | None
        ca_cert: str | PathLike[str] | None
        client_cert: str | PathLike[str] | None
        client_key: str | PathLike[str] | None
        client: Any
        allow_insecure: bool


__all__ = ["URL_OPTIONS", "URL_REFUSED", "VaultConnection"]

# From a standby to the active server it is one.
_MOST_REDIRECTS = 3
_SAME_METHOD = frozenset({307, 308})

_ENDPOINT = ("address", "namespace", "ca_cert", "client_cert", "client_key")
_LOGIN = (
    "auth_mount",
    "token",
    "token_file",
    "role",
    "role_id",
    "role_id_file",
    "secret_id",
    "secret_id_file",
    "jwt_file",
    "aws_region",
    "aws_server_id",
)
_FILES = frozenset({"token_file", "role_id_file", "secret_id_file", "jwt_file", "ca_cert", "client_cert", "client_key"})

URL_REFUSED: Mapping[str, str] = {
    "token": "URLs are logged and shown; set VAULT_TOKEN, or give token_file=, or pass it in code",
    "secret_id": "URLs are logged and shown; set VAULT_SECRET_ID, or give secret_id_file=, or pass it in code",
    "client": "pass it in code",
    "allow_insecure": "only code can allow this: allow_insecure=True",
}
URL_OPTIONS = frozenset({*_ENDPOINT, *_LOGIN, "also_address", "auth"} - set(URL_REFUSED))


class VaultConnection:
    """Requests to one server, each with a token that should work. Safe for several threads.

    The settings are read when it is made; hvac is loaded, and the first connection and login are
    made, at the first request. Either a ready `client=` (an `hvac.Client`, or a function without
    arguments that makes one, which is logged in and keeps its own settings), or the other arguments.

    Raises TypeError, or ProviderConfigError for arguments that do not go together.
    """

    @redact_frames
    def __init__(
        self,
        *,
        auth: str | None = None,
        also_address: str | Sequence[str] = (),
        client: Any = None,
        allow_insecure: bool = False,
        **given: Any,
    ) -> None:
        unknown = [name for name in given if name not in _ENDPOINT and name not in _LOGIN]
        if unknown:
            raise TypeError(f"a connection to Vault has no argument {unknown[0]!r}")
        checked_allow_insecure(allow_insecure)
        texts = {name: _as_text(name, given.get(name)) for name in (*_ENDPOINT, *_LOGIN)}
        auth = _as_text("auth", auth)
        also = _as_addresses(also_address)
        self._lock = threading.Lock()
        self._adapter: Any = None
        self._closed = False
        self._strict = is_strict()
        self._orphaned = False
        self._client = client
        self._tokens: TokenManager | None = None
        self._relogin_guard = ReloginGuard()
        if client is None:
            self._endpoint = read_endpoint(
                also_address=also, allow_insecure=allow_insecure, **{name: texts[name] for name in _ENDPOINT}
            )
            login = login_for(auth, {name: texts[name] for name in _LOGIN})
            self._tokens = TokenManager(login, self._send, self._endpoint.label)
            return
        beside = [name for name in ("auth", *texts) if (auth if name == "auth" else texts[name]) is not None]
        beside += ["also_address"] if also else []
        if beside:
            raise ProviderConfigError(
                f"client= is a ready client with its own settings, so {', '.join(beside)} would have no effect"
            )
        if not _is_client(client) and not callable(client):
            raise TypeError(f"client must be an hvac.Client or a function that makes one, not {_kind(client)}")
        self._endpoint = _endpoint_of(client if _is_client(client) else None)

    @property
    def label(self) -> str:
        """The server, for messages."""
        return self._endpoint.label

    @property
    def login(self) -> Login | None:
        """The way to a token; None where a ready client has its own."""
        return self._tokens.login if self._tokens is not None else None

    @property
    def login_label(self) -> str:
        """The login, for messages."""
        return self.login.label if self.login is not None else "the given client"

    @redact_frames
    def ask(
        self, method: str, path: str, *, action: str, body: Mapping[str, Any] | None = None, again: bool = True
    ) -> Answer:
        """One request, and when it is denied one new login and one repetition (but for `again=False`).

        `path` is that of the API, quoted, such as `/v1/secret/data/agents`; `action` names in
        messages what it is for. Gives whatever the server answers; raises KeyUnavailableError,
        ProviderConfigError and what a login raises.
        """
        tokens = self._tokens
        used = self._ready() if tokens is None else tokens.current()
        answer = self._send(method, path, action=action, token=_value_of(used), body=body)
        if answer.denied and again:
            other = self._another(used)
            if other is not None:
                used = other
                answer = self._send(method, path, action=action, token=_value_of(used), body=body)
        if answer.ok:
            self._relogin_guard.record_success(used)
        return answer

    def _another(self, denied: Any) -> Any:
        """Another token than the one that was denied, or another client of the given function, if there is one."""
        tokens = self._tokens
        if _is_client(self._client):
            return None
        if (tokens is None or tokens.login.brings_new) and not self._relogin_guard.allows(denied):
            return None
        if tokens is not None:
            return tokens.replace(denied)
        self._drop(denied)
        return self._ready()

    def close(self) -> None:
        """Forget the token and close the connections; a ready client is its owner's to close."""
        with self._lock:
            adapter, self._adapter, self._closed = self._adapter, None, True
        if self._tokens is not None:
            self._tokens.forget()
        if adapter is not None and not _is_client(self._client):
            adapter.close()

    def after_fork(self) -> None:
        """In a forked child: no connection of the parent is used again, or even closed.

        Raises ProviderConfigError for a ready client, which nobody but its maker could make anew.
        """
        self._lock = threading.Lock()
        self._adapter = None
        self._relogin_guard.after_fork()
        if self._tokens is not None:
            self._tokens.after_fork()
        if _is_client(self._client):
            self._orphaned = True
            self._ready()

    @redact_frames
    def _send(
        self, method: str, path: str, *, action: str, token: str = "", body: Mapping[str, Any] | None = None
    ) -> Answer:
        """One request and no more. The token goes with it rather than into the client, which others use too."""
        adapter = self._ready()
        headers = {"X-Vault-Token": token} if token else {}
        try:
            with quiet_sdk_logs():
                response = self._follow(
                    adapter, method, path, headers=headers, **({} if body is None else {"json": dict(body)})
                )
            return Answer.of(response, token)
        except (OSError, ValueError) as error:
            # Every error of requests is an OSError; a redirect to nonsense is a ValueError. What it
            # means is raised outside of this block, without the frames of requests, which hold the token.
            failure = transport_failure(error, action, self._endpoint)
        raise failure

    def _ready(self) -> Any:
        with self._lock:
            if self._closed:
                raise KeyProviderError(f"the provider of {self._endpoint.label} is closed")
            if self._orphaned:
                raise ProviderConfigError(
                    "this process was forked, and a ready client= cannot be used in both processes; pass a function"
                    " that makes one, as in client=lambda: hvac.Client(...)"
                )
            if self._adapter is None:
                self._adapter = self._new_adapter()
            return self._adapter

    def _drop(self, adapter: Any) -> None:
        with self._lock:
            if self._adapter is adapter:
                self._adapter = None

    def _new_adapter(self) -> Any:
        if self._client is not None:
            client = self._client if _is_client(self._client) else self._made_client()
            if not _is_client(client):
                raise TypeError(f"the function given as client did not return an hvac.Client but {_kind(client)}")
            self._endpoint = _endpoint_of(client)
            if self._strict and _verifies_nothing(client):
                raise ProviderConfigError(
                    f"the given client of {self._endpoint.label} does not verify its server, which strict"
                    " mode refuses; give it https and the server's CA"
                )
            return client.adapter
        endpoint = self._endpoint
        refuse_encrypted_key(endpoint.client_key or endpoint.client_cert)
        adapter = self._adapter_at(endpoint.address)
        bound(adapter.session, endpoint.address)
        return adapter

    def _adapter_at(self, address: str, session: Any = None) -> Any:
        endpoint = self._endpoint
        # Not hvac.Client: it would fill in what the environment said when hvac was imported.
        return import_sdk("hvac.adapters", "vault").RawAdapter(
            base_uri=address,
            namespace=endpoint.namespace,
            cert=(endpoint.client_cert, endpoint.client_key) if endpoint.client_key else endpoint.client_cert,
            verify=True if endpoint.ca is None else endpoint.ca,
            timeout=endpoint.timeouts,
            allow_redirects=False,
            session=session,
        )

    def _follow(self, adapter: Any, method: str, path: str, **given: Any) -> Any:
        """The answer, after at most a few redirects. They are followed here: requests would take the token anywhere."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = adapter.request(method, path, raise_exception=False, **given)
            # A ready client goes its own ways. What was posted is not asked for instead.
            if (
                self._client is not None
                or not response.is_redirect
                or (method != "get" and response.status_code not in _SAME_METHOD)
            ):
                return response
            target = redirect_target(
                response.url,
                response.headers["Location"],
                self._endpoint.origins,
                allow_insecure=self._endpoint.allow_insecure,
            )
            adapter, path = self._adapter_at(target.origin, adapter.session), target.path
        raise RefusedRedirectError(f"the answer redirects more than {_MOST_REDIRECTS} times; check the address")

    def _made_client(self) -> Any:
        """What the given function makes; it may log in meanwhile, and then its failures are ours to translate."""
        action = "the function given as client"
        requests_errors = import_sdk("requests.exceptions", "vault").RequestException
        hvac_errors = import_sdk("hvac.exceptions", "vault").VaultError
        try:
            with quiet_sdk_logs():
                return self._client()
        except requests_errors as error:
            failure = transport_failure(error, action, self._endpoint)
        except hvac_errors as error:
            failure = client_failure(error, action)
        raise failure


def _is_client(client: Any) -> bool:
    return not isinstance(client, type) and hasattr(client, "adapter")


def _verifies_nothing(client: Any) -> bool:
    """Whether anybody on the way could answer this client."""
    given = getattr(client.adapter, "_kwargs", {}).get("verify", True)
    return given is False or is_insecure(str(getattr(client.adapter, "base_uri", "")))


def _endpoint_of(client: Any) -> Endpoint:
    address = _origin(str(getattr(client.adapter, "base_uri", ""))) if client is not None else "the given client"
    return Endpoint(
        address=address,
        also=(),
        namespace=getattr(client.adapter, "namespace", None) if client is not None else None,
        ca=None,
        ca_label="what the given client trusts",
        client_cert=None,
        client_key=None,
        allow_insecure=True,
        timeouts=None,
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _as_text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if name in _FILES and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value:
        raise ProviderConfigError(f"{name} is empty; give a value, or leave it out")
    return value


def _as_addresses(given: str | Sequence[str]) -> tuple[str, ...]:
    """Several in one text have commas between them, as in a URL."""
    found = tuple(given.split(",")) if isinstance(given, str) else given
    if not isinstance(found, (tuple, list)) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"also_address must be a str or several, not {_kind(given)}")
    return tuple(found)


def _value_of(used: Any) -> str:
    return used.value if isinstance(used, Token) else ""


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
