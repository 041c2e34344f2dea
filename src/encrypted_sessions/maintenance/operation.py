"""What one command does with the rows of a store, and the words in which it says so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..core.envelope import Envelope
from ..core.suites.fernet_v1 import Opener
from ..stores.whole import StoredRow

if TYPE_CHECKING:
    from .engine import Engine


class ClassifiedRow(NamedTuple):
    """A row and what it is.

    `outcome` is an outcome's name, or "not_opened". `timestamp` is proven where the outcome says so.
    `item` is set for plaintext, and `envelope` where the row is one; `opener` where its key was there.
    """

    row: StoredRow
    outcome: str
    kid: str | None = None
    timestamp: int | None = None
    item: dict[str, Any] | None = None
    envelope: Envelope | None = None
    opener: Opener | None = None


class Remove:
    """The change of a row that goes."""


REMOVE = Remove()


class Defer:
    """The change of a row on which `Operation.free` decides, once more rows were seen."""


DEFER = Defer()


class Operation(ABC):
    """What one command does with rows. `run` is set while the walk goes on."""

    run: Engine
    #: Whether the command is there to change rows.
    changes: ClassVar[bool] = True
    #: False where `take` itself finds out whether an authentic row holds an item: it says so to `Engine.correct`.
    looks_inside: ClassVar[bool] = True

    async def begin_page(self) -> None:  # noqa: B027 - most commands need nothing
        """What is needed before the rows of a page are taken."""

    def passes_by(self, row: StoredRow) -> bool:  # noqa: ARG002 - for those that pass rows by
        """Whether a row is none of this command's business, by its label alone. It counts as "not_opened"."""
        return False

    def passes(self) -> tuple[str, ...]:
        """How the texts of such rows begin, or () where that alone does not tell."""
        return ()

    def passed(self, rows: int) -> None:  # noqa: B027 - likewise
        """So many rows of a block were passed by unread, for they all begin as `passes` said."""

    @abstractmethod
    def take(self, classified: ClassifiedRow) -> str | Remove | Defer | None:
        """What to put in a row's place; None leaves it as it is."""

    async def free(self, rows: Sequence[StoredRow]) -> Sequence[int]:  # noqa: ARG002 - for those that put rows off
        """Which of the rows that were put off are to be removed, by their places."""
        return ()

    async def before_writing(self, rows: Sequence[StoredRow]) -> None:  # noqa: B027 - likewise
        """What must be done before these rows are changed."""
