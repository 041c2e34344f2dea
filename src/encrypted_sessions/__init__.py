"""Encrypted, expiring sessions for AI agents.

from encrypted_sessions import EncryptedSession, KeyRing

keys = KeyRing.from_url("env:SESSION_KEYS")
session = EncryptedSession.wrap(SQLiteSession("user-123", "agents.db"), keys, ttl=86_400)
"""

from __future__ import annotations

from importlib import import_module
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

    from .errors import (
        AuditFailedError,
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
except ImportError as error:
    # Another distribution may have put a package of that name in place of ours.
    from .doctor.installed import whose_package

    found = whose_package()
    if found.problem is None:
        raise
    raise ImportError(f"{found.problem}. To do: {found.advice}") from error

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from .core.finding import Finding
    from .events.context import audit_context
    from .events.observing import observe
    from .events.shapes import ItemCount, KeysetEvent, SessionEvent
    from .history.results import History
    from .maintenance.run_event import RunEvent
    from .rings import KeyRings
    from .session import EncryptedSession

__all__ = [
    "AuditFailedError",
    "EncryptedSession",
    "EncryptedSessionError",
    "Finding",
    "History",
    "HistoryChangedError",
    "InsecurePermissionsWarning",
    "InvalidKeyError",
    "ItemCount",
    "Key",
    "KeyAccessDeniedError",
    "KeyDestroyedError",
    "KeyDisabledError",
    "KeyNotAskedError",
    "KeyNotFoundError",
    "KeyProviderError",
    "KeyRing",
    "KeyRings",
    "KeyUnavailableError",
    "KeysetEvent",
    "LongSessionIdWarning",
    "ProviderConfigError",
    "PurgeRefusedError",
    "PutBackError",
    "RunEvent",
    "ScanBudgetError",
    "SessionEvent",
    "StoreConfigError",
    "StoreError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "UnreadableItemsError",
    "WeakKeyWarning",
    "audit_context",
    "observe",
]


# Loaded when first asked for (PEP 562): a program that catches errors, or works on whole stores, makes no session.
_HOMES = {
    "EncryptedSession": ".session",
    "Finding": ".core.finding",
    "History": ".history.results",
    "ItemCount": ".events.shapes",
    "KeyRing": "keyproviders",
    "KeyRings": ".rings",
    "KeysetEvent": ".events.shapes",
    "RunEvent": ".maintenance.run_event",
    "SessionEvent": ".events.shapes",
    "audit_context": ".events.context",
    "observe": ".events.observing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
