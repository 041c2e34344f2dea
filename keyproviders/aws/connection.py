"""One client of one AWS service: made when it is used, made anew when its credentials ended, never shared in a fork."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .._support.extras import import_sdk
from .._support.redaction import redact_frames
from .._support.strictness import checked_allow_insecure
from .._support.transport_security import is_insecure, is_loopback, warn_insecure_transport
from ..errors import KeyProviderError, ProviderConfigError
from .sdk import CredentialsExpiredError, ErrorRule, botocore_session, region_of, translating_errors

__all__ = ["URL_OPTIONS", "URL_REFUSED", "AwsConnection", "check_text"]

_Answer = TypeVar("_Answer")

_CREDENTIALS = "URLs are logged and shown; boto3 finds credentials by itself"

URL_OPTIONS = frozenset({"region", "profile", "endpoint_url"})
URL_REFUSED: Mapping[str, str] = {
    "client": "pass it in code",
    "allow_insecure": "only code can allow this: allow_insecure=True",
    "aws_access_key_id": _CREDENTIALS,
    "aws_secret_access_key": _CREDENTIALS,
    "aws_session_token": _CREDENTIALS,
}


class AwsConnection:
    """Requests to one service. Safe for several threads; nothing is loaded or sent before the first.

    `service` is its name in botocore, `method` one that its clients have, `place` words for
    messages, `rules` what its error codes mean beside those of every service. `home` is the
    region that a name or an ARN implies; `region` comes before it. Either a ready `client` (or
    a function that makes one, without arguments), or the other settings.

    Raises TypeError for a wrong type and ProviderConfigError for invalid settings.
    """

    @redact_frames
    def __init__(
        self,
        service: str,
        method: str,
        *,
        place: str,
        rules: tuple[ErrorRule, ...],
        home: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        client: Any = None,
        allow_insecure: bool = False,
    ) -> None:
        options = {"region": region, "profile": profile, "endpoint_url": endpoint_url}
        for name, value in options.items():
            check_text(name, value)
        checked_allow_insecure(allow_insecure)
        self._service = service
        self._method = method
        self._place = place
        self._rules = rules
        self._region = region or home
        self._profile = profile
        self._endpoint_url = endpoint_url
        self._given = client
        self._allow_insecure = allow_insecure
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False
        self._orphaned = False
        if client is not None:
            beside = [name for name, value in options.items() if value is not None]
            if beside:
                raise ProviderConfigError(
                    f"client= is a ready client with its own settings, so {', '.join(beside)} would have no effect"
                )
            if not self._is_client(client) and not callable(client):
                raise TypeError(
                    f"client must be a boto3 client of {service} or a function that makes one, not a"
                    f" {type(client).__name__}"
                )
        if endpoint_url is not None:
            self._check_endpoint(endpoint_url)

    @redact_frames
    def ask(self, action: str, call: Callable[[Any], _Answer]) -> _Answer:
        """The answer of `call`, which is given the client. `action` names in messages what it is for.

        Once more with a new client when the credentials have ended: a new session reads the
        environment, the files and the chain anew. Raises what `sdk.translating_errors` does.
        """
        client = translating_errors(action, self.ready)
        try:
            return translating_errors(action, lambda: call(client), self._rules, is_request=True)
        except CredentialsExpiredError:
            if self._is_client(self._given):
                raise
        # Out of the except block, so that what fails now has no context.
        self._drop(client)
        fresh = translating_errors(action, self.ready)
        return translating_errors(action, lambda: call(fresh), self._rules, is_request=True)

    @redact_frames
    def region(self, action: str) -> str | None:
        """The region that requests go to, or None where a ready client does not say."""
        found = getattr(getattr(translating_errors(action, self.ready), "meta", None), "region_name", None)
        return found if isinstance(found, str) else None

    def close(self) -> None:
        """Close the connections. A ready client stays open: its owner closes it."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        closing = getattr(client, "close", None)
        if closing is not None and not self._is_client(self._given):
            closing()

    def after_fork(self) -> None:
        """In a forked child: no connection of the parent is used again.

        Raises ProviderConfigError for a ready client, which nobody but its maker could make anew.
        """
        self._lock = threading.Lock()
        self._client = None
        if self._is_client(self._given):
            self._orphaned = True
            self.ready()

    def ready(self) -> Any:
        """The client. Raises KeyProviderError once closed, and what botocore raises."""
        with self._lock:
            if self._closed:
                raise KeyProviderError(f"the provider of {self._place} is closed")
            if self._orphaned:
                raise ProviderConfigError(
                    "this process was forked, and a ready client= cannot be used in both processes; pass a function"
                    f" that makes one, as in client=lambda: boto3.client({self._service!r})"
                )
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> Any:
        if self._given is not None:
            client = self._given if self._is_client(self._given) else self._given()
            if not self._is_client(client):
                raise TypeError(
                    f"the function given as client did not return a boto3 client but a {type(client).__name__}"
                )
            return client
        client = self._created(self._endpoint_url)
        if self._endpoint_url is None:
            # boto3's own settings may name one, such as AWS_ENDPOINT_URL.
            self._check_endpoint(client.meta.endpoint_url)
        if is_loopback(client.meta.endpoint_url):
            # A proxy between this process and its own machine would get the keys.
            client = self._created(self._endpoint_url, proxies={})
        return client

    def _created(self, endpoint_url: str | None, **config: Any) -> Any:
        session = botocore_session(self._profile, self._check_way)
        try:
            return session.create_client(
                self._service,
                region_name=region_of(session, self._region),
                endpoint_url=endpoint_url,
                config=import_sdk("botocore.config", "aws").Config(**config),
            )
        except ValueError as error:
            if isinstance(error, import_sdk("botocore.exceptions", "aws").BotoCoreError):
                raise
        raise self._no_endpoint()

    def _drop(self, client: Any) -> None:
        with self._lock:
            if self._client is client:
                self._client = None

    def _check_endpoint(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            is_one = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_one = False
        if not is_one or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise self._no_endpoint()
        if "@" in url or "?" in url:
            raise ProviderConfigError(f"the endpoint of {self._place} has a user or a query in it; remove it")
        self._check_way(url)

    def _check_way(self, url: str) -> None:
        if not is_insecure(url):
            return
        problem = (
            f"{url.partition('?')[0]} is plain http to another machine: anyone on the network path can read the"
            " keys; use https"
        )
        if not self._allow_insecure:
            raise ProviderConfigError(f"{problem}; allow_insecure=True in code allows it")
        warn_insecure_transport(problem)

    def _no_endpoint(self) -> ProviderConfigError:
        # Not shown: it may have a password in it.
        return ProviderConfigError(
            f"the endpoint of {self._place} is not a URL that requests can be sent to; write it as in https://host or"
            " https://host:port, here or in boto3's own settings"
        )

    def _is_client(self, client: Any) -> bool:
        return not isinstance(client, type) and hasattr(client, self._method)


def check_text(name: str, value: object) -> None:
    """Raise for a setting that is neither None nor a text. No value is shown."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if value == "":
        raise ProviderConfigError(f"{name} is empty; give a value, or leave it out")
