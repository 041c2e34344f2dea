"""The cipher suites, by the version that an envelope names in its member `v`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import fernet_v1
from .suite import Suite

__all__ = ["SUITES", "WRITTEN"]

SUITES: Mapping[int, Suite] = MappingProxyType({suite.version: suite for suite in (fernet_v1.SUITE,)})

#: The suite that seals.
WRITTEN = fernet_v1.SUITE
