"""For tests: a fake provider, and the conformance suites for authors.

`FakeKeyProvider` replaces a place of keys in the tests of an application. Each suite is a class of tests to inherit
from: `KeyProviderConformance` for a key provider, `KeyWrapperConformance` for what wraps the keys of a keyset, and
`KeysetStoreConformance` for what stores keysets.
"""

from __future__ import annotations

from .fake import FakeKeyProvider
from .keyset_store import KeysetStoreConformance
from .provider import KeyProviderConformance
from .wrapper import KeyWrapperConformance

__all__ = ["FakeKeyProvider", "KeyProviderConformance", "KeyWrapperConformance", "KeysetStoreConformance"]
