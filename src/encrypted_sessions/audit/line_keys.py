"""The keys that lines of an audit log are made with, asked of their rings each time they are used."""

from __future__ import annotations

from keyproviders import Key, KeyProviderError, KeyRing, redact_frames

from ..events.pseudonyms import opened_ring
from .journal import Keys

__all__ = ["LineKeys"]


class LineKeys:
    """Where they come from. Nothing is held beside what the rings hold."""

    @redact_frames
    def __init__(self, chain: object, pseudonyms: object) -> None:
        self._chain, own_chain = opened_ring(chain, "chain_keys")
        self._pseudonyms, own_pseudonyms = opened_ring(pseudonyms, "pseudonym_keys")
        self._own = [
            ring
            for ring, own in ((self._chain, own_chain), (self._pseudonyms, own_pseudonyms))
            if own and ring is not None
        ]

    @property
    def are_needed(self) -> bool:
        """Whether any place has to be asked."""
        return self._chain is not None or self._pseudonyms is not None

    def now(self, kids: tuple[str | None, str | None]) -> Keys:
        """The active keys; those of `kids`, which were used last, where a place does not say which is active.

        Raises KeyProviderError.
        """
        chain_kid, pseudonyms_kid = kids
        return Keys(_key(self._chain, chain_kid), _key(self._pseudonyms, pseudonyms_kid))

    def close(self) -> None:
        """Close the rings that were made here."""
        for ring in self._own:
            ring.close()


def _key(ring: KeyRing | None, kid: str | None) -> Key | None:
    if ring is None:
        return None
    try:
        return ring.active_sync()
    except KeyProviderError:
        if kid is None:
            raise
        return ring.get_sync(kid, wait_s=0)
