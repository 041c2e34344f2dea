"""What the C library keeps of freed memory."""

from __future__ import annotations

import sys
from contextlib import suppress

__all__ = ["return_freed_memory"]

# Of malloc.h of glibc. Blocks from this size on go back to the system when they are freed.
_M_MMAP_THRESHOLD = -3
_THRESHOLD = 2**20


def return_freed_memory() -> None:
    """Have large blocks returned to the system, for the rest of this process.

    By itself glibc raises its threshold to the largest block that was freed, and each thread keeps
    some of them: for rows of 6 MB, up to 20 MiB more. Other C libraries are left as they are.
    """
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - not for `--help`

        with suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)
