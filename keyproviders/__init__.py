"""Where keys come from: providers, and the ring in front of them.

For users: ``KeyRing``, its ``CachePolicy`` and ``RetryPolicy``, ``Key``, ``open_provider``,
``looks_like_provider_url``, ``known_schemes``, and the errors under ``KeyProviderError``.

For authors of providers: ``KeyProvider`` is what a provider must do, ``decode_key_text`` reads key
material strictly, ``parse_kid`` splits a public id, and ``redact_frames`` keeps secrets out of
tracebacks.
"""

from __future__ import annotations

from .errors import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from .events import KeyEvent
from .keyring import KeyRing, RingHealth
from .policies import CachePolicy, RetryPolicy
from .provider import Key, KeyProvider, decode_key_text, parse_kid
from .redaction import redact_frames
from .registry import known_schemes, looks_like_provider_url, open_provider

__all__ = [
    "CachePolicy",
    "InvalidKeyError",
    "Key",
    "KeyAccessDeniedError",
    "KeyDestroyedError",
    "KeyDisabledError",
    "KeyEvent",
    "KeyNotFoundError",
    "KeyProvider",
    "KeyProviderError",
    "KeyRing",
    "KeyUnavailableError",
    "ProviderConfigError",
    "RetryPolicy",
    "RingHealth",
    "decode_key_text",
    "known_schemes",
    "looks_like_provider_url",
    "open_provider",
    "parse_kid",
    "redact_frames",
]
