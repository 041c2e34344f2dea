"""What to do about an error of a provider, where its message does not say."""

from __future__ import annotations

from keyproviders import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)

__all__ = ["UNKNOWN_ERROR", "advice_for"]

#: From the special to the general.
_ADVICE: tuple[tuple[type[KeyProviderError], str], ...] = (
    (ProviderConfigError, "change the setting that the message names, and start the process again"),
    (
        InvalidKeyError,
        "write a key there, as `encrypted-sessions keygen` prints; if one was there, look for a cut or added character",
    ),
    (
        KeyAccessDeniedError,
        "allow this process to read the key: look at the user, role or policy that it runs under",
    ),
    (
        KeyDisabledError,
        "enable the key at its place, or make another one active; what it sealed needs it back",
    ),
    (
        KeyDestroyedError,
        "make another key active; what the destroyed one sealed cannot be read again",
    ),
    (KeyNotFoundError, "put a key there and make it the active one; check the name in the URL"),
    (
        KeyUnavailableError,
        "see that the place runs and can be reached, then run doctor again; who holds a key goes on meanwhile",
    ),
)

#: A keyset has no keys that anybody could write there.
_INVALID_IN_A_KEYSET = (
    "nothing is to be written there by hand: the keyset is damaged, another one, or older than one that was seen. Find"
    " out who changed it, and put back its last good copy; where a copy was put back on purpose, start every process"
    " again"
)

UNKNOWN_ERROR = (
    "this is no error that a provider should raise, and its words may hold anything, so they are not shown; report it"
    " to the provider's author"
)


def advice_for(error: KeyProviderError, *, in_a_keyset: bool) -> str:
    """A sentence without its full stop. `in_a_keyset` says that the keys are those of a keyset."""
    if in_a_keyset and isinstance(error, InvalidKeyError):
        return _INVALID_IN_A_KEYSET
    return next((advice for kind, advice in _ADVICE if isinstance(error, kind)), UNKNOWN_ERROR)
