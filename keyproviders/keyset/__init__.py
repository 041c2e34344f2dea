"""A keyset: several keys that lie wrapped in a store, the same for every process of a fleet.

A `KeyWrapper` (AWS KMS, Vault Transit) makes and opens wrapped keys, a `KeysetStore` (a file, an
SQL database) keeps the document that lists them. `KeysetKeyProvider` hands the keys to a ring;
`KeysetManager`, which `open_keyset(url)` makes, is what an operator changes the keyset with.
"""

from __future__ import annotations

from ..wrapping import KeyWrapper, WrappedKey
from .info import KeyInfo, KeysetChange, KeysetInfo
from .manager import KeysetManager, open_keyset
from .model import KeysetRefusedError
from .provider import KeysetKeyProvider
from .stores.base import KeysetStore, StoredKeyset
from .stores.file import FileKeysetStore
from .stores.sql import SqlKeysetStore

__all__ = [
    "FileKeysetStore",
    "KeyInfo",
    "KeyWrapper",
    "KeysetChange",
    "KeysetInfo",
    "KeysetKeyProvider",
    "KeysetManager",
    "KeysetRefusedError",
    "KeysetStore",
    "SqlKeysetStore",
    "StoredKeyset",
    "WrappedKey",
    "open_keyset",
]
