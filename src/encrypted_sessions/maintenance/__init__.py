"""Work over a whole store: see what it contains, remove expired rows, move rows to the active key.

    async with KeyRing.from_url(url) as keys, open_store("sqlite:///agents.db") as store:
        report = await reencrypt(store, keys)

Agents may read and write meanwhile: each change is made only if the row still has exactly the bytes that were read.
If a run was stopped or killed, the next run continues.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..stores.urls import open_store
    from ._discard import discard
    from ._encrypt import encrypt_plaintext
    from ._erase import erase
    from ._inventory import inventory
    from ._purge import purge
    from ._put_back import put_back
    from ._reencrypt import reencrypt
    from ._verify import verify
    from .progress import Progress
    from .reports import (
        AgeBucket,
        DiscardReport,
        EncryptReport,
        EraseReport,
        Group,
        InventoryReport,
        KeyUse,
        PurgeReport,
        PutBackReport,
        ReencryptReport,
        ReplicaState,
        Report,
        RowFinding,
        VerifyReport,
    )

__all__ = [
    "AgeBucket",
    "DiscardReport",
    "EncryptReport",
    "EraseReport",
    "Group",
    "InventoryReport",
    "KeyUse",
    "Progress",
    "PurgeReport",
    "PutBackReport",
    "ReencryptReport",
    "ReplicaState",
    "Report",
    "RowFinding",
    "VerifyReport",
    "discard",
    "encrypt_plaintext",
    "erase",
    "inventory",
    "open_store",
    "purge",
    "put_back",
    "reencrypt",
    "verify",
]

# No module is named like a function: importing it would take the function's place here.
_HOMES = {
    "Progress": ".progress",
    "discard": "._discard",
    "encrypt_plaintext": "._encrypt",
    "erase": "._erase",
    "inventory": "._inventory",
    "open_store": "..stores.urls",
    "purge": "._purge",
    "put_back": "._put_back",
    "reencrypt": "._reencrypt",
    "verify": "._verify",
}


def __getattr__(name: str) -> object:
    """Load what a name stands for when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES.get(name, ".reports"), __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
