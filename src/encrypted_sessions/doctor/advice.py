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
    (ProviderConfigError, "change the setting named in the message, and restart the process"),
    (
        InvalidKeyError,
        (
            "store a key there, as printed by `encrypted-sessions keygen`; if there was one, check it for missing or"
            " extra characters"
        ),
    ),
    (
        KeyAccessDeniedError,
        "allow this process to read the key: check the user, role or policy that it runs under",
    ),
    (
        KeyDisabledError,
        "enable the key where it is kept, or make another one active; its rows can be read only once it is enabled",
    ),
    (
        KeyDestroyedError,
        "make another key active; what the destroyed key sealed cannot be read again",
    ),
    (KeyNotFoundError, "add a key there and make it the active one; check the name in the URL"),
    (
        KeyUnavailableError,
        (
            "check that the place of keys is running and reachable, then run doctor again; processes that hold a key"
            " continue meanwhile"
        ),
    ),
)

#: A keyset has no keys that anybody could write there.
_INVALID_KEYSET = (
    "do not edit the keyset by hand: it is damaged, was replaced by another one, or is older than one seen"
    " before. Find out who changed it, and restore its last good copy; if a copy was restored on purpose, restart"
    " every process"
)

#: What comes first for one kind of place.
_BY_KIND: Mapping[Kind, tuple[_Advice, ...]] = {
    "keyset": (
        (
            ProviderConfigError,
            (
                "change the setting named in the message; if the keyset was lost, restore its last copy: a new keyset"
                " cannot open existing rows"
            ),
        ),
        (InvalidKeyError, _INVALID_KEYSET),
        (KeyAccessDeniedError, "allow this process to read the keyset, and to unwrap with the KMS or Transit key"),
        (
            KeyDisabledError,
            "enable the KMS or Transit key; `encrypted-sessions keys restore` brings back a retired key",
        ),
        (KeyNotFoundError, "check the name of the KMS or Transit key in the URL, and its region, account or mount"),
        (
            KeyUnavailableError,
            (
                "check that the keyset can be read and that KMS or Vault is reachable; processes that hold a key"
                " continue meanwhile"
            ),
        ),
    ),
    "env": (
        (
            InvalidKeyError,
            "put a key into the variable, as printed by `encrypted-sessions keygen`, and restart the process",
        ),
    ),
    "file": ((KeyAccessDeniedError, "let the user of this process, and nobody else, read the file: chown, chmod 600"),),
}

#: A keyset counts on rings that stop writing earlier.
TOO_EARLY = (
    "if the rings of your services have other settings, give them as --fresh and --stale-write; else lower fresh_s"
    " or stale_write_s there, or move to a keyset with a longer `keys create --activation-delay`: rows that such rings"
    " seal after a rotation may be late_key"
)

UNKNOWN_ERROR = (
    "this is not an error that a provider should raise, and its text may contain anything, so it is not shown; report"
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
