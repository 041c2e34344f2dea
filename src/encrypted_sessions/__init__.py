"""Encrypted, expiring sessions for AI agents.

from encrypted_sessions import EncryptedSession, KeyRing

keys = KeyRing.from_url("env:SESSION_KEYS")
session = EncryptedSession.wrap(SQLiteSession("user-123", "agents.db"), keys, ttl=86_400)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from keyproviders import (
        InvalidKeyError,
        Key,
        KeyAccessDeniedError,
        KeyDestroyedError,
        KeyDisabledError,
        KeyNotAskedError,
        KeyNotFoundError,
        KeyProviderError,
        KeyUnavailableError,
        ProviderConfigError,
    )

    from .core.outcomes import Finding
    from .errors import (
        EncryptedSessionError,
        HistoryChangedError,
        InsecurePermissionsWarning,
        LongSessionIdWarning,
        PurgeRefusedError,
        PutBackError,
        ScanBudgetError,
        StoreConfigError,
        StoreError,
        StoreTimeoutError,
        StoreUnavailableError,
        UnreadableItemsError,
        WeakKeyWarning,
    )
    from .history.results import History
    from .session import EncryptedSession
except ImportError as error:
    # Another distribution may have put a package of that name in place of ours.
    from .doctor.installed import whose_package

    found = whose_package()
    if found.problem is None:
        raise
    raise ImportError(f"{found.problem}. To do: {found.advice}") from error

if TYPE_CHECKING:
    from keyproviders import KeyRing

__all__ = [
    "EncryptedSession",
    "EncryptedSessionError",
    "Finding",
    "History",
    "HistoryChangedError",
    "InsecurePermissionsWarning",
    "InvalidKeyError",
    "Key",
    "KeyAccessDeniedError",
    "KeyDestroyedError",
    "KeyDisabledError",
    "KeyNotAskedError",
    "KeyNotFoundError",
    "KeyProviderError",
    "KeyRing",
    "KeyUnavailableError",
    "LongSessionIdWarning",
    "ProviderConfigError",
    "PurgeRefusedError",
    "PutBackError",
    "ScanBudgetError",
    "StoreConfigError",
    "StoreError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "UnreadableItemsError",
    "WeakKeyWarning",
]


def __getattr__(name: str) -> object:
    if name != "KeyRing":  # the one name that is costly to import, and that not everybody needs
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keyproviders import KeyRing  # noqa: PLC0415 - as was just said

    globals()[name] = KeyRing
    return KeyRing


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
