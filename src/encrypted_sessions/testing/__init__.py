"""For tests: the suites that every store should pass. For pytest, which is not imported here.

The author of a store inherits from `RowStoreConformance`, `WholeStoreConformance` or both, and says how a session or
a store is opened. `docs/write-your-own-store.md` shows how.
"""

from __future__ import annotations

from .row_store import RowStoreConformance
from .whole_store import WholeStoreConformance

__all__ = ["RowStoreConformance", "WholeStoreConformance"]
