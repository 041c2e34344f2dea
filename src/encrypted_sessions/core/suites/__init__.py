"""The cipher suites, by the version that an envelope names in its member `v`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import aes_gcm_v2, fernet_v1
from .suite import Suite

__all__ = ["SUITES", "WRITTEN"]

SUITES: Mapping[int, Suite] = MappingProxyType({suite.version: suite for suite in (fernet_v1.SUITE, aes_gcm_v2.SUITE)})

#: The suite that seals where none is named.
WRITTEN = fernet_v1.SUITE
