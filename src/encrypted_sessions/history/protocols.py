"""What a classifier needs of rows and of what opens them, for type checkers: nothing imports it at run time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from ..core.cipher import Opener
from ..core.envelope import Envelope

__all__ = ["Openers", "StoredData"]


class StoredData(Protocol):
    """A row of one session, or of a whole store."""

    @property
    def data(self) -> object:
        """The row's JSON text as stored, or the object where the store gives no text."""


_RowT_contra = TypeVar("_RowT_contra", bound=StoredData, contravariant=True)


class Openers(Protocol[_RowT_contra]):
    """Where a classifier finds what opens its rows."""

    async def prepare(self, envelopes: Iterable[Envelope]) -> None:
        """Have an answer for the keys of these envelopes. Raises what a key provider raises that cannot."""

    def opener(self, envelope: Envelope, row: _RowT_contra) -> Opener | str:
        """What opens a row's envelope, or the outcome that says why nothing does."""
