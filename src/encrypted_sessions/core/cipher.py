"""A session's key and the suites: what seals, what opens, whichever version an envelope names."""

from __future__ import annotations

from typing import Any, NoReturn

from .envelope import Envelope, pack, pack_row
from .exact_json import NotJsonError, decode_item
from .suites import SUITES, WRITTEN
from .suites.suite import Cipher, End, NotAnItem, Opener, Unauthentic

__all__ = ["VERSIONS", "NotAnItem", "Opener", "SessionCipher", "Unauthentic"]

#: The suites there are, by the versions that envelopes name.
VERSIONS = tuple(SUITES)


class SessionCipher:
    """One master key as one session uses it, in every suite.

    Holds keys: never printed, never pickled. Several threads may seal with it, and make openers.
    """

    __slots__ = ("_ciphers", "_place", "_sealing", "_secret", "_suite", "kid", "written_until")

    def __init__(self, secret: bytes, session_id: str, kid: str, realm: str = "", suite: int = WRITTEN.version) -> None:
        """Take a master key's bytes. Raises UnicodeEncodeError for an id that UTF-8 cannot hold.

        Seals in the version `suite`. The `realm` is bound by those that bind one.
        """
        self.kid = kid
        self._suite = SUITES[suite]
        self.written_until: float | None = None
        """Until when the key may have written, seconds since 1970; None for no end."""
        self._secret = secret
        self._place = (session_id, kid, realm)
        self._sealing = self._suite.derive(secret, *self._place)
        self._ciphers = {suite: self._sealing}

    def __repr__(self) -> str:
        return f"SessionCipher({self.kid})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a SessionCipher holds keys and cannot be pickled or copied")

    def seal(
        self,
        item: object,
        timestamp: int,
        expires: int | None = None,
        *,
        max_bytes: int | None = None,
        pad: bool = False,
    ) -> dict[str, Any]:
        """The object to store for an item; times in seconds since 1970, `expires` None for no end.

        Raises TypeError for an item that JSON cannot give back as it is, and TooLongError for one whose JSON
        is longer than `max_bytes`, with what `pad` adds.
        """
        body = self._sealing.seal(item, timestamp, expires, max_bytes=max_bytes, pad=pad)
        return pack(self.kid, body, self._suite)

    def seal_row(self, item: object, timestamp: int, expires: int | None = None) -> str:
        """The same as compact JSON text."""
        return pack_row(self.kid, self._sealing.seal(item, timestamp, expires), self._suite)

    def reseal_row(
        self,
        envelope: Envelope,
        opener: Opener,
        *,
        suite: int | None = None,
        expires: End = "kept",
    ) -> str:
        """The row's text for the very bytes that another key has sealed, with the same times and id.

        In the version `suite`; None for the one that the row has. `expires` is the end of what comes from a suite
        that says none, and has to be told then; a row that says one keeps it, as far as the suite says any. Not for
        several threads at once. Raises Unauthentic, and NotAnItem when the content is no JSON object, or the suite
        does not hold its time.
        """
        plaintext = opener.decrypt(envelope)
        try:
            decode_item(plaintext)
        except NotJsonError:
            raise NotAnItem from None
        version = envelope.version if suite is None else suite
        return pack_row(self.kid, self._of(version).reseal(envelope, plaintext, expires), SUITES[version])

    def opener(self, version: int) -> Opener:
        """What opens envelopes of a version that `parse` gives. Not for several threads at once."""
        opener = (self._ciphers.get(version) or self._of(version)).opener()
        opener.parse, opener.written_until = SUITES[version].parse, self.written_until
        return opener

    def _of(self, version: int) -> Cipher:
        cipher = self._ciphers.get(version)
        if cipher is None:
            cipher = self._ciphers[version] = SUITES[version].derive(self._secret, *self._place)
        return cipher
