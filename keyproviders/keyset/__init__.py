"""A keyset: several keys that are stored in wrapped form, the same for every process of a fleet.

A `KeyWrapper` (AWS KMS, Vault Transit) makes and opens wrapped keys, a `KeysetStore` (a file, an SQL database) keeps
the document that lists them. `KeysetKeyProvider` gives the keys to a ring. Operators change the keyset with
`KeysetManager`, which `open_keyset(url)` makes.
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
