"""Keys from HashiCorp Vault and OpenBao. Needs the extra ``[vault]``, which is loaded at first use."""

from __future__ import annotations

from .kv import VaultKvKeyProvider

__all__ = ["VaultKvKeyProvider"]
