"""Whole stores: every row of every session in a file of SQLite, a PostgreSQL database or Redis."""

from encrypted_sessions.maintenance.stores.base import (
    Block,
    StoreConfigError,
    StoredRow,
    StoreError,
    StoreUnavailableError,
    WholeStore,
)
from encrypted_sessions.maintenance.stores.urls import open_store

__all__ = [
    "Block",
    "StoreConfigError",
    "StoreError",
    "StoreUnavailableError",
    "StoredRow",
    "WholeStore",
    "open_store",
]
