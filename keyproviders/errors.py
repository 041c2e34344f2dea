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
    """The parent of everything that keys and their providers raise.

    The message names the provider, the place, the key's public id and what to do next. It never
    holds secret bytes, tokens or passwords, so it may be logged.

    Args:
        message: What happened, to which key of which place, and what to do next.

    Raises:
        TypeError: The message is no str.
    """

    def __init__(self, message: str) -> None:
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, not {type(message).__name__}")
        super().__init__(message)


class KeyUnavailableError(KeyProviderError):
    """The provider could not answer now; the answer may come later.

    Raised for time-outs, refused connections, throttling and servers that fail. It is the only
    error that is retried.

    Args:
        message: What happened, to which key of which place, and what to do next.
        retry_after_s: Seconds after which the place wants to be asked again; None when it did not say.

    Raises:
        TypeError: The message is no str, or `retry_after_s` no number.
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
    """The place was not asked: too many other look-ups of keys that it may not have were before this one.

    Nothing is known of the key. A ring raises it; providers do not.
    """


class KeyAccessDeniedError(KeyProviderError):
    """The place answered that this process may not have the key."""


class KeyNotFoundError(KeyProviderError):
    """The place answered that it has no such key."""


class KeyDisabledError(KeyNotFoundError):
    """The key exists and may come back.

    It is deleted but kept, disabled, scheduled for deletion, below the minimum version, or retired.
    """


class KeyDestroyedError(KeyNotFoundError):
    """The key existed and is gone for good: what was sealed with it can never be opened again."""


class InvalidKeyError(KeyProviderError, ValueError):
    """What was given as a key is none: a wrong length, no base64, a damaged wrapping."""


class ProviderConfigError(KeyProviderError, ValueError):
    """The provider cannot work as it is set up.

    A bad URL, a missing extra, a missing variable, TLS that is not verified: a person has to
    change a setting.
    """


class InsecurePermissionsWarning(UserWarning):
    """Others than its owner may read a file of keys or credentials, or put another in its place."""


class WeakKeyWarning(UserWarning):
    """A key is not 32 random bytes: whoever copies the store can guess it."""
