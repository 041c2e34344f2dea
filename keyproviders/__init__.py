"""Where keys come from: providers, and the ring in front of them.

For users: `KeyRing`, its `CachePolicy` and `RetryPolicy`, `Key`, `open_provider`, `looks_like_provider_url`,
`known_schemes`, and the errors under `KeyProviderError`. For operators: `open_keyset`, which changes the keyset that
a fleet shares. For monitoring: `observe`, which reports what happens to the keys of every ring, `observe_calls`,
which reports each call to a provider, `observe_keysets`, which reports each change of a keyset, and `snapshot_rings`,
which says what all rings could do now.

For authors of providers: `KeyProvider` is what a provider must do, `decode_key_text` reads key material strictly,
`weakness_of` recognises a placeholder, `is_strict` says whether to refuse what otherwise causes a warning,
`parse_kid` splits a public id, and `redact_frames` keeps secrets out of tracebacks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._support.redaction import redact_frames
from .errors import (
    InsecurePermissionsWarning,
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotAskedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
    WeakKeyWarning,
)
from .key import Key, decode_key_text, parse_kid
from .provider import KeyProvider

if TYPE_CHECKING:
    from ._support.keyset_hooks import KeysetCall, observe_keysets
    from ._support.strictness import is_strict
    from .key_strength import weakness_of
    from .keyset import open_keyset
    from .registry import known_schemes, looks_like_provider_url, open_provider
    from .ring.call_hooks import observe_calls
    from .ring.events import observe
    from .ring.health import RingHealth
    from .ring.key_event import KeyEvent
    from .ring.keyring import KeyRing
    from .ring.policies import CachePolicy, RetryPolicy
    from .ring.provider_call import ProviderCall
    from .ring.snapshots import RingSnapshot, snapshot_rings

__all__ = [
    "CachePolicy",
    "InsecurePermissionsWarning",
    "InvalidKeyError",
    "Key",
    "KeyAccessDeniedError",
    "KeyDestroyedError",
    "KeyDisabledError",
    "KeyEvent",
    "KeyNotAskedError",
    "KeyNotFoundError",
    "KeyProvider",
    "KeyProviderError",
    "KeyRing",
    "KeyUnavailableError",
    "KeysetCall",
    "ProviderCall",
    "ProviderConfigError",
    "RetryPolicy",
    "RingHealth",
    "RingSnapshot",
    "WeakKeyWarning",
    "decode_key_text",
    "is_strict",
    "known_schemes",
    "looks_like_provider_url",
    "observe",
    "observe_calls",
    "observe_keysets",
    "open_keyset",
    "open_provider",
    "parse_kid",
    "redact_frames",
    "snapshot_rings",
    "weakness_of",
]

# Loaded when first asked for (PEP 562): the ring and what it stands on are half of what there is to
# import, and a program that takes its key from a string needs none of it.
_HOMES = {
    "CachePolicy": "ring.policies",
    "KeyEvent": "ring.key_event",
    "KeyRing": "ring.keyring",
    "KeysetCall": "_support.keyset_hooks",
    "ProviderCall": "ring.provider_call",
    "RetryPolicy": "ring.policies",
    "RingHealth": "ring.health",
    "RingSnapshot": "ring.snapshots",
    "is_strict": "_support.strictness",
    "known_schemes": "registry",
    "looks_like_provider_url": "registry",
    "observe": "ring.events",
    "observe_calls": "ring.call_hooks",
    "observe_keysets": "_support.keyset_hooks",
    "open_keyset": "keyset",
    "open_provider": "registry",
    "snapshot_rings": "ring.snapshots",
    "weakness_of": "key_strength",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
