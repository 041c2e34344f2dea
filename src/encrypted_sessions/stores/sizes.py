"""How much of a store is in memory at once."""

from __future__ import annotations

__all__ = ["MAX_ROW_BYTES", "PAGE", "PAGE_BYTES"]

#: The largest row that is looked at, unless the application says otherwise: far above a picture of 3 MiB.
MAX_ROW_BYTES = 64 * 2**20

#: Rows of a session that are read at once. So few are no burden to the event loop or to memory, where rows are small.
PAGE = 256

#: A row can be megabytes: a page has about so many bytes at most, whatever number of rows was asked for.
PAGE_BYTES = 4 * 2**20
