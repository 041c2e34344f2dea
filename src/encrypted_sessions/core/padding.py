"""Blanks after an item's JSON, so that a row's size says less of it. No reader has to be told of them."""

from __future__ import annotations

__all__ = ["padded"]

_LEAST = 256


def padded(text: bytes) -> bytes:
    """JSON of at least 256 bytes, and of one of few lengths: at most 12 % longer than it was.

    The rule is PADMÉ (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs"):
    a length of n + 1 binary digits, where n itself has d, ends in n - d zeros.
    """
    length = max(len(text), _LEAST)
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return text.ljust((length + mask) & ~mask)
