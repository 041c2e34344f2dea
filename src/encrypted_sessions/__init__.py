"""Encrypted, expiring sessions for AI agents.

from encrypted_sessions import EncryptedSession, KeyRing

keys = KeyRing.from_url("env:SESSION_KEYS")
session = EncryptedSession.wrap(SQLiteSession("user-123", "agents.db"), keys, ttl=86_400)
"""

from __future__ import annotations

from encrypted_sessions.errors import (
    EncryptedSessionError,
    UnreadableItemsError,
    WeakKeyWarning,
)
from encrypted_sessions.outcomes import Finding, History
from encrypted_sessions.session import EncryptedSession
from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
)

__all__ = [
    "EncryptedSession",
    "EncryptedSessionError",
    "Finding",
    "History",
    "InvalidKeyError",
    "Key",
    "KeyAccessDeniedError",
    "KeyDestroyedError",
    "KeyDisabledError",
    "KeyNotFoundError",
    "KeyProviderError",
    "KeyRing",
    "KeyUnavailableError",
    "ProviderConfigError",
    "UnreadableItemsError",
    "WeakKeyWarning",
]
