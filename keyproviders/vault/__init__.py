"""Keys from HashiCorp Vault and OpenBao. Needs the extra `[vault]`, which is loaded at first use."""

from __future__ import annotations

from .kv import VaultKvKeyProvider
from .transit import VaultTransitKeyWrapper

__all__ = ["VaultKvKeyProvider", "VaultTransitKeyWrapper"]
