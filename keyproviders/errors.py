"""What keys can raise: one tree, so that a caller catches as much of it as it can handle.

The tree tells apart what to do next. `KeyUnavailableError` is worth another try,
`KeyDestroyedError` never is, and the others want a person. A provider translates the failures of
its own SDK into these in one place and lets everything that it does not know pass as it is.
"""

from __future__ import annotations

from math import isfinite

__all__ = [
    "InsecurePermissionsWarning",
    "InvalidKeyError",
    "KeyAccessDeniedError",
    "KeyDestroyedError",
    "KeyDisabledError",
    "KeyNotAskedError",
    "KeyNotFoundError",
    "KeyProviderError",
    "KeyUnavailableError",
    "ProviderConfigError",
    "WeakKeyWarning",
]


class KeyProviderError(Exception):
    """The base class of all errors of keys and their providers.

    The message names the provider, the place of keys, the key's public id and what to do next. It never contains
    secret bytes, tokens or passwords, so it may be logged.

    Args:
        message: What happened, to which key of which place of keys, and what to do next.

    Raises:
        TypeError: The message is not a str.
    """

    def __init__(self, message: str) -> None:
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, not {type(message).__name__}")
        super().__init__(message)


class KeyUnavailableError(KeyProviderError):
    """The provider could not answer now; the answer may come later.

    Raised for time-outs, refused connections, throttling and failing servers. It is the only error that is retried.

    Args:
        message: What happened, to which key of which place of keys, and what to do next.
        retry_after_s: Seconds after which the place of keys wants to be asked again; None if it did not say.

    Raises:
        TypeError: The message is not a str, or `retry_after_s` is not a number.
        ValueError: `retry_after_s` is negative or not finite.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        if retry_after_s is not None:
            if isinstance(retry_after_s, bool) or not isinstance(retry_after_s, (int, float)):
                raise TypeError(
                    f"retry_after_s must be a number of seconds or None, not {type(retry_after_s).__name__}"
                )
            if not isfinite(retry_after_s) or retry_after_s < 0:
                raise ValueError("retry_after_s must be a finite number of seconds, 0 or more")
        self.retry_after_s = retry_after_s


class KeyNotAskedError(KeyUnavailableError):
    """The place of keys was not asked: too many look-ups of other, possibly unknown keys were queued before this one.

    Nothing is known about the key. Rings raise this error; providers do not.
    """


class KeyAccessDeniedError(KeyProviderError):
    """The place of keys answered that this process may not have the key."""


class KeyNotFoundError(KeyProviderError):
    """The place of keys answered that it has no such key."""


class KeyDisabledError(KeyNotFoundError):
    """The key exists and may come back.

    It is deleted but kept, disabled, scheduled for deletion, below the minimum version, or retired.
    """


class KeyDestroyedError(KeyNotFoundError):
    """The key existed and was destroyed permanently: what it sealed can never be opened again."""


class InvalidKeyError(KeyProviderError, ValueError):
    """What was given as a key is not one: a wrong length, not base64, or a damaged wrapping."""


class ProviderConfigError(KeyProviderError, ValueError):
    """The provider cannot work with its settings.

    A bad URL, a missing extra, a missing variable, TLS that is not verified: a person has to change a setting.
    """


class InsecurePermissionsWarning(UserWarning):
    """Users other than its owner may read or replace a file of keys or credentials."""


class WeakKeyWarning(UserWarning):
    """A key is not 32 random bytes: whoever copies the store can guess it."""
