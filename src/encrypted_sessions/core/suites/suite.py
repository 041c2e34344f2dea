"""What a cipher suite is: one version of the envelope, with the cryptography behind it.

A suite is a module of this folder and a line of the table in `__init__`; nothing else names a version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from ..exact_json import NotJsonError, decode_item

__all__ = ["Cipher", "End", "Envelope", "NotAnItem", "Opener", "Reader", "Suite", "Unauthentic"]

#: Until when what is sealed again lives, seconds since 1970: None for no end, "kept" for what it says of itself.
End: TypeAlias = "int | Literal['kept'] | None"

#: Gives the item in a body's text in quotation marks; None unless it parses, is in time and opens, without telling why.
Reader = Callable[[bytes], dict[str, Any] | None]

Parse = Callable[[str, bytes], "Envelope | None"]
Derive = Callable[[bytes, str, str, str], "Cipher"]


class Unauthentic(Exception):  # noqa: N818 - an answer that the reader turns into an outcome
    """The envelope's check does not fit: it was altered, or sealed with another key."""


class NotAnItem(Exception):  # noqa: N818 - an answer that the reader turns into an outcome
    """The envelope is authentic, and what it holds is no JSON object."""


class Envelope:
    """A well-formed envelope, whose claims prove nothing until an opener has verified it.

    `body` is what the suite made, in bytes. `timestamp` and `expires` are seconds since 1970; `expires` is None where
    the writer set no end, or the suite has no place for it. A suite makes a subclass, and may keep in it what else it
    reads from the body.
    """

    __slots__ = ("body", "kid", "timestamp", "verified_by")

    version: ClassVar[int]
    expires: int | None
    #: Whether a writer of this suite says an end, or that there is none.
    says_expires: ClassVar[bool]

    def __init__(self, kid: str, body: bytes, timestamp: int) -> None:
        self.kid = kid
        self.body = body
        self.timestamp = timestamp
        self.verified_by: Opener | None = None


class Opener(ABC):
    """Opens one session's envelopes, sealed under one key. Not for several threads at once."""

    __slots__ = ("parse", "written_until")

    #: The suite's.
    parse: Parse
    #: Until when its key may have written, seconds since 1970; None for no end.
    written_until: float | None

    @abstractmethod
    def verify(self, envelope: Envelope) -> None:
        """Raise Unauthentic unless key and envelope fit; else say so in its `verified_by`."""

    @abstractmethod
    def decrypt(self, envelope: Envelope) -> bytes:
        """The bytes that were sealed. Verifies first, unless this very opener has.

        Raises Unauthentic, and NotAnItem for what no suite seals.
        """

    def open(self, envelope: Envelope) -> dict[str, Any]:
        """The item, verified. Raises Unauthentic, and NotAnItem when the content is no JSON object."""
        try:
            return decode_item(self.decrypt(envelope))
        except NotJsonError:
            raise NotAnItem from None

    def reader(self, kid: str, is_in_time: Callable[[Envelope], bool]) -> Reader:
        """What opens, in one call for each, rows under `kid` that are plainly ok."""

        def read(quoted: bytes) -> dict[str, Any] | None:
            envelope = self.parse(kid, quoted)
            try:
                return None if envelope is None or not is_in_time(envelope) else self.open(envelope)
            except (Unauthentic, NotAnItem):
                return None

        return read


class Cipher(Protocol):
    """One session's cipher under one key. Holds keys: never printed, never pickled."""

    def seal(
        self,
        item: object,
        timestamp: int,
        expires: int | None = None,
        *,
        max_bytes: int | None = None,
        pad: bool = False,
    ) -> bytes:
        """The body of an envelope of the item's exact JSON. Raises TypeError and TooLongError as `encode_item` does."""

    def reseal(self, envelope: Envelope, plaintext: bytes, expires: End = "kept") -> bytes:
        """A body of the bytes that another key's opener gave for `envelope`, with all that it says of itself.

        `expires` is the end of what comes from a suite that says none. Raises ValueError where that has to be told
        and is not, and NotAnItem for a time that the suite does not hold. Not for several threads at once.
        """

    def opener(self) -> Opener:
        """What opens this cipher's envelopes one after another."""


class Suite:
    """One row of the table.

    `label` is what HKDF is told besides the session, or how that begins; `member` is the body's name in the object.
    `parse` takes a kid and that member's ASCII text in quotation marks, and gives None for what the suite does not
    write; `encode` makes the text of a body. `derive` takes a master secret, a session id, a kid and a realm.
    """

    __slots__ = ("derive", "encode", "label", "member", "parse", "version")

    def __init__(
        self, version: int, label: bytes, member: str, parse: Parse, encode: Callable[[bytes], str], derive: Derive
    ) -> None:
        self.version, self.label, self.member = version, label, member
        self.parse, self.encode, self.derive = parse, encode, derive
