"""The life of a token: renewed in time, replaced when it cannot be, on use and never in between."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from math import inf

from .._support.clock import AgeClock
from .._support.redaction import redact_frames
from ..errors import KeyProviderError, KeyUnavailableError
from .login import Login, Send, TokenLease

__all__ = ["ReloginGuard", "Token", "TokenManager"]

_log = logging.getLogger("keyproviders")

# A token is renewed at two thirds of its life at the latest, and a tenth of that earlier at most, so
# that a fleet which started in one moment does not return in one.
_DUE = 2 / 3
_JITTER = 0.1
# After a renewal that failed, this part of what is left goes by before the next; and a renewal must
# win at least this many seconds to count as one.
_AGAIN = 0.1
_SECOND = 1.0
# A replacement that was denied too is not replaced for so long: each login leaves a token at the server.
_USELESS_S = 30.0


class Token:
    """A token that is in use. `ends_at` and `due_at` are times of the manager's clock."""

    __slots__ = ("due_at", "ends_at", "renewable", "value")

    def __init__(self, lease: TokenLease, now: float, jitter: float) -> None:
        self.value = lease.value
        self.renewable = lease.renewable
        self.ends_at = now + lease.duration_s if lease.duration_s > 0 else inf
        self.due_at = now + lease.duration_s * _DUE * (1 - jitter) if lease.duration_s > 0 else inf

    def __repr__(self) -> str:
        return "<Token>"


class TokenManager:
    """Hands out a token that should work. Safe for several threads; none waits for a mere renewal."""

    def __init__(
        self,
        login: Login,
        send: Send,
        server: str,
        *,
        clock: Callable[[], float] | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.login = login
        self._send = send
        self._server = server
        # The server's clock goes on while this machine is suspended.
        self._clock = AgeClock() if clock is None else clock
        self._jitter = jitter
        self._token: Token | None = None
        self._lock = threading.Lock()
        self._failures = 0
        self._failure: tuple[type[KeyProviderError], str, float | None] | None = None

    def after_fork(self) -> None:
        """A lock may be held by a thread that the child does not have. The token is as good as before."""
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop the token."""
        self._token = None

    @redact_frames
    def current(self) -> Token:
        """The token to use now: the same, a renewed or a new one. Raises what a login raises."""
        token = self._token
        now = self._clock()
        if self.login.reads_each_time or token is None or now >= token.ends_at:
            return self._log_in(token)
        if now >= token.due_at and self._lock.acquire(blocking=False):
            # The others go on with the token they have: it is still good.
            try:
                if self._token is token:
                    self._prolong(token)
            finally:
                self._lock.release()
        return self._token or token

    @redact_frames
    def replace(self, denied: Token) -> Token | None:
        """Another token than the one that was denied, or None when there is no other."""
        token = self._log_in(denied)
        return None if token.value == denied.value else token

    def _log_in(self, old: Token | None) -> Token:
        """A new token, unless another thread has just got one. Who waited for a failed login shares it."""
        seen = self._failures
        with self._lock:
            if self._token is not None and self._token is not old:
                return self._token
            if self._failures != seen and self._failure is not None:
                _raise_again(*self._failure)
            try:
                return self._take(self.login.log_in(self._send, self._server))
            except KeyProviderError as error:
                self._failures += 1
                self._failure = (type(error), str(error), getattr(error, "retry_after_s", None))
                raise

    def _take(self, lease: TokenLease) -> Token:
        token = self._token
        if token is None or token.value != lease.value or token.ends_at != inf or lease.duration_s > 0:
            token = Token(lease, self._clock(), self._jitter(0.0, _JITTER))
            self._token = token
        return token

    def _prolong(self, token: Token) -> None:
        """Renew it; else log in anew; else keep it until its end and try again before that."""
        if token.renewable:
            action = f"renewing {self.login.label}"
            try:
                answer = self._send("post", "/v1/auth/token/renew-self", action=action, token=token.value, body={})
            except KeyProviderError as error:
                self._postpone(token, str(error))
                return
            if answer.transient:
                self._postpone(token, f"{action}: the server answered {answer.status}")
                return
            lease = TokenLease.of(answer)
            if lease is not None:
                renewed = Token(lease, self._clock(), self._jitter(0.0, _JITTER))
                if renewed.ends_at > token.ends_at + _SECOND:
                    self._token = renewed
                    return
            # Refused for good, or at the maximum of its life: more renewals would change nothing.
            token.renewable = False
        if not self.login.brings_new:
            _log.warning(
                "%s cannot be renewed any more and will expire in %.0f s; replace it, or use"
                " auth=token-file or auth=agent",
                self.login.label,
                token.ends_at - self._clock(),
            )
            token.due_at = inf
            return
        try:
            self._take(self.login.log_in(self._send, self._server))
        except KeyProviderError as error:
            self._postpone(token, str(error))

    def _postpone(self, token: Token, why: str) -> None:
        left_s = token.ends_at - self._clock()
        token.due_at = self._clock() + max(_SECOND, left_s * _AGAIN)
        _log.warning("the token will expire in %.0f s and could not be renewed; this is tried again: %s", left_s, why)


class ReloginGuard:
    """Whether it is worth while to put something else in the place of what was denied.

    One that was put there a moment ago, and has been good for nothing since, need not be replaced
    again: a policy that lacks a line must not cost a login at every request. Safe for several threads.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = AgeClock() if clock is None else clock
        self._lock = threading.Lock()
        self._replaced: object = None
        self._since = -inf
        self._has_helped = False

    def allows(self, denied: object) -> bool:
        """Whether to replace this one. What is being replaced already may be so for every thread."""
        with self._lock:
            if denied is self._replaced:
                return True
            if not self._has_helped and self._clock() - self._since < _USELESS_S:
                return False
            self._replaced, self._since, self._has_helped = denied, self._clock(), False
            return True

    def record_success(self, used: object) -> None:
        """This one was good for something."""
        if used is not self._replaced:
            self._has_helped = True

    def after_fork(self) -> None:
        """A lock may be held by a thread that the child does not have."""
        self._lock = threading.Lock()


def _raise_again(kind: type[KeyProviderError], message: str, retry_after_s: float | None) -> None:
    if issubclass(kind, KeyUnavailableError):
        raise kind(message, retry_after_s=retry_after_s)
    raise kind(message)
