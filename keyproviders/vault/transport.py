"""HTTP to a server, where an answer is bounded as a whole.

A time-out of requests holds between two bytes, so an answer that drips can last for ever, and
nothing bounds its size. Here both end: the time at what `requests` was told for reading.
"""

from __future__ import annotations

import io
import time
from functools import cache
from http.client import HTTPResponse
from typing import Any

from .._support.extras import import_sdk
from .._support.transport_security import is_loopback

__all__ = ["RefusedAnswerError", "bound"]

# A server stores secrets of 1 MiB at most, unless it was told otherwise.
_MOST_BYTES = 4 * 1024 * 1024


class RefusedAnswerError(OSError):
    """An answer that is not taken. Its text says why, in words without secrets."""


def bound(session: Any, address: str) -> None:
    """Set bounds to a session of `requests` that talks to the server at this address."""
    # Not from the environment at each request: that would also take a password out of ~/.netrc, and
    # a proxy between us and this machine's own server would get the token.
    session.trust_env = False
    environment = import_sdk("requests.utils", "vault").get_environ_proxies
    session.proxies = {} if is_loopback(address) else environment(address, no_proxy=None)
    session.headers["Accept-Encoding"] = "identity"
    session.hooks["response"].append(_refuse_encoded)
    for scheme in ("https://", "http://"):
        session.mount(scheme, _bounded_adapter()())


def _refuse_encoded(response: Any, **_: Any) -> None:
    """A few compressed bytes can become gigabytes, and nobody asked for such an answer."""
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise RefusedAnswerError("the answer is compressed, which was not requested; check for a proxy in between")


class _Bounded(io.RawIOBase):
    """What comes out of a socket, until the time or the size is used up."""

    def __init__(self, raw: Any, sock: Any) -> None:
        self._raw = raw
        self._sock = sock
        timeout_s = sock.gettimeout()
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._left = _MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None:
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the answer was not complete in time")
            self._sock.settimeout(left_s)
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise RefusedAnswerError(f"the answer is larger than {_MOST_BYTES // 1024**2} MiB; check the address")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    """Its head and its body are read within the bounds, and so is a proxy's answer."""

    def __init__(self, sock: Any, *args: Any, **given: Any) -> None:
        super().__init__(sock, *args, **given)
        self.fp: Any = io.BufferedReader(_Bounded(self.fp.detach(), sock))


@cache
def _bounded_pool(pool: Any) -> Any:
    """This class of connection pools, with bounded responses. It may be of any kind of proxy."""
    connection = type("Connection", (pool.ConnectionCls,), {"response_class": _BoundedResponse})
    return type("Pool", (pool,), {"ConnectionCls": connection})


def _bind(manager: Any) -> Any:
    if not getattr(manager, "is_bounded", False):
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: _bounded_pool(pool) for scheme, pool in pools.items()}
        manager.is_bounded = True
    return manager


@cache
def _bounded_adapter() -> Any:
    """The class of an adapter of `requests` whose connections give bounded responses."""
    adapter: Any = import_sdk("requests.adapters", "vault").HTTPAdapter

    class BoundedAdapter(adapter):  # type: ignore[misc]  # the SDK is loaded when it is used
        def init_poolmanager(self, *args: Any, **given: Any) -> None:
            super().init_poolmanager(*args, **given)
            _bind(self.poolmanager)

        def proxy_manager_for(self, proxy: str, **given: Any) -> Any:
            return _bind(super().proxy_manager_for(proxy, **given))

    return BoundedAdapter
