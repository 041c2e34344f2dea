"""For tests: a provider that does as it is told, and the suites that authors of parts should pass.

`FakeKeyProvider` stands in for a place of keys in the tests of an application. Each suite is a class of
tests to inherit: `KeyProviderConformance` for a provider of keys, `KeyWrapperConformance` for a place
that wraps the keys of a keyset, and `KeysetStoreConformance` for a place that keeps keysets.
"""

from __future__ import annotations

from .fake import FakeKeyProvider
from .keyset_store import KeysetStoreConformance
from .provider import KeyProviderConformance
from .wrapper import KeyWrapperConformance

__all__ = ["FakeKeyProvider", "KeyProviderConformance", "KeyWrapperConformance", "KeysetStoreConformance"]
