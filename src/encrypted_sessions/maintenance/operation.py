"""What one command does with the rows of a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from enum import Enum
from typing import ClassVar

from ..stores.whole import StoredRow
from .classified_row import ClassifiedRow
from .export import Export
from .run import Run

__all__ = ["DEFER", "REMOVE", "Action", "Operation", "ReadOnlyOperation"]


class Action(Enum):
    """What becomes of a row that gets no new text."""

    REMOVE = "remove"
    #: `Operation.release_deferred` decides, once more rows were seen.
    DEFER = "defer"


#: By names of the module: until Python 3.12 a member costs far more to get, and one is got for each row.
REMOVE, DEFER = Action.REMOVE, Action.DEFER


class Operation(ABC):
    """What one command does with the rows of its run."""

    #: Whether the command is there to change rows.
    changes: ClassVar[bool] = True
    #: False where `decide` itself finds out whether an authentic row holds an item: it says so to `Run.recount`.
    looks_inside: ClassVar[bool] = True

    def __init__(self, run: Run) -> None:
        self.run = run
        self.export: Export | None = None
        """Where rows are written before they are removed, if anywhere."""
        self.concerns_replicas = self.changes
        """Whether what the report says holds only once each replica has it, too."""

    async def begin_page(self) -> None:  # noqa: B027 - most commands need nothing
        """What is needed before the rows of a page are decided on."""

    def skips(self, row: StoredRow) -> bool:  # noqa: ARG002 - for those that skip rows
        """Whether a row is none of this command's business, by its label alone. It counts as "not_opened"."""
        return False

    def skipped_openings(self) -> tuple[str, ...]:
        """How the texts of skipped rows begin, or () where that alone does not tell."""
        return ()

    def skipped_unread(self, rows: int) -> None:  # noqa: B027 - likewise
        """So many rows of a block were not even read, for they all begin as `skipped_openings` said."""

    @abstractmethod
    def decide(self, classified: ClassifiedRow) -> str | Action | None:
        """The text to put in a row's place, or what else becomes of it; None leaves it as it is."""

    def counted_as(self, classified: ClassifiedRow) -> Hashable:
        """What a changed row counts as."""
        return classified.outcome

    async def release_deferred(self, rows: Sequence[StoredRow]) -> Sequence[int]:  # noqa: ARG002 - for those that defer
        """Which of the rows that were deferred are to be removed, by their indexes."""
        return ()

    async def before_writing(self, rows: Sequence[StoredRow]) -> None:
        """What must be done before these rows are changed."""
        if self.export is not None:
            await self.export.write(rows)


class ReadOnlyOperation(Operation):
    """An operation that changes nothing, and knows which key is active."""

    changes = False
    active_kid: str | None = None

    async def begin_page(self) -> None:
        """Ask for the active key, which may change during a long run."""
        if self.run.keys is not None:
            self.active_kid = (await self.run.keys.active()).kid
