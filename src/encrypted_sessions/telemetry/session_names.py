"""What sessions are called in spans: nothing, their ids, or pseudonyms, whose key is never waited for."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from keyproviders import KeyProviderError, KeyRing

from ..events.pseudonyms import SessionIds, opened_ring, pseudonym

__all__ = ["SessionNames"]

logger = logging.getLogger("encrypted_sessions")

#: Which key is active is asked for again after so long, in the background.
_ASK_EVERY_S = 60.0


class SessionNames:
    """Names sessions without blocking anybody: while no key is in hand, a session has no name."""

    def __init__(self, session_ids: SessionIds, pseudonym_keys: KeyRing | str | None) -> None:
        self._plain = session_ids == "plain"
        self._ring, self._close_ring = opened_ring(pseudonym_keys, "pseudonym_keys")
        self._kid: str | None = None
        self._ask_at = float("-inf")

    def name(self, session_id: str) -> str | None:
        """What that session is called; None for nothing."""
        if self._ring is None:
            return session_id if self._plain else None
        self._ask_if_due(self._ring)
        if self._kid is None:
            return None
        try:
            # With a key that is held this asks nobody and waits for nothing.
            return pseudonym(session_id, self._ring.get_sync(self._kid, wait_s=0))
        except KeyProviderError:
            return None

    def close(self) -> None:
        """Close the ring, if it was made here."""
        if self._ring is not None and self._close_ring:
            self._ring.close()

    def _ask_if_due(self, ring: KeyRing) -> None:
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + _ASK_EVERY_S
            asking = threading.Thread(target=self._ask, args=(ring,), name="encrypted-sessions-pseudonyms", daemon=True)
            with suppress(RuntimeError):  # the interpreter is ending
                asking.start()

    def _ask(self, ring: KeyRing) -> None:
        try:
            self._kid = ring.active_sync().kid
        except KeyProviderError as error:
            logger.warning("spans have no session ids: the key for their pseudonyms could not be fetched (%s)", error)
