"""What to do about an error of a provider, where its message does not say: by the kind of place that raised it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from keyproviders import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProvider,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)

__all__ = ["TOO_EARLY", "UNKNOWN_ERROR", "Kind", "advice_for", "kind_of"]

Kind = Literal["keyset", "env", "file", "other"]

_Advice = tuple[type[KeyProviderError], str]

#: From the special to the general.
_ADVICE: tuple[_Advice, ...] = (
    (ProviderConfigError, "change the setting that the message names, and restart the process"),
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
        "enable the key at its place, or make another one active; its rows cannot be read until it is back",
    ),
    (
        KeyDestroyedError,
        "make another key active; what was sealed with the destroyed one can never be read again",
    ),
    (KeyNotFoundError, "put a key there and make it the active one; check the name in the URL"),
    (
        KeyUnavailableError,
        "check that the place runs and can be reached, then run doctor again; processes with a key go on meanwhile",
    ),
)

#: A keyset has no keys that anybody could write there.
_INVALID_KEYSET = (
    "write nothing there by hand: the keyset is damaged, is another one, or is older than one that was seen. Find out"
    " who changed it, and put back its last good copy; if a copy was put back on purpose, restart every process"
)

#: What comes first for one kind of place.
_BY_KIND: Mapping[Kind, tuple[_Advice, ...]] = {
    "keyset": (
        (
            ProviderConfigError,
            "change what the message names; if the keyset was lost, put back its last copy: a new one opens no row",
        ),
        (InvalidKeyError, _INVALID_KEYSET),
        (KeyAccessDeniedError, "allow this process to read the keyset, and to unwrap with the key of KMS or Transit"),
        (
            KeyDisabledError,
            "enable the key of KMS or Transit; a retired key comes back by `encrypted-sessions keys restore`",
        ),
        (KeyNotFoundError, "check the name of the key of KMS or Transit in the URL, its region, account or mount"),
        (
            KeyUnavailableError,
            "check that the keyset and KMS or Vault can be reached; processes with a key go on meanwhile",
        ),
    ),
    "env": (
        (
            InvalidKeyError,
            "put a key into the variable, as `encrypted-sessions keygen` prints, and restart the process",
        ),
    ),
    "file": ((KeyAccessDeniedError, "let the user of this process, and nobody else, read the file: chown, chmod 600"),),
}

#: A keyset counts on rings that stop writing earlier.
TOO_EARLY = (
    "if the rings of your services have other numbers, give them as --fresh and --stale-write; else lower fresh_s or"
    " stale_write_s there, or move to a keyset with a longer `keys create --activation-delay`: after a rotation, rows"
    " that such rings seal may be late_key"
)

UNKNOWN_ERROR = (
    "this is not an error that a provider should raise, and its words may hold anything, so they are not shown; report"
    " it to the provider's author"
)


def kind_of(provider: KeyProvider) -> Kind:
    """Which kind of place a provider stands for."""
    if hasattr(provider, "activation_delay_s"):  # which keysets alone have
        return "keyset"
    scheme = str(getattr(provider, "place", "")).partition(":")[0]
    return next((kind for kind in get_args(Kind) if kind == scheme), "other")


def advice_for(error: KeyProviderError, kind: Kind) -> str:
    """A sentence without its full stop."""
    rules = (*_BY_KIND.get(kind, ()), *_ADVICE)
    return next((advice for type_, advice in rules if isinstance(error, type_)), UNKNOWN_ERROR)
