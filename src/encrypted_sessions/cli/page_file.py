"""Where the page of an inventory goes: a file that appears as a whole or not at all, or stdout."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .._support.origin import library_version
from .errors import failed

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..maintenance import Report

__all__ = ["PageFile"]


class PageFile:
    """A page that is to be written when the run is over; whether it can be is looked at before."""

    def __init__(self, path: Path | None, *, replaces: bool) -> None:
        self._path = path
        self._replaces = replaces

    @classmethod
    def open(cls, name: str, replaces: bool) -> Self:  # noqa: FBT001 - the two options of the command
        """The file, or stdout for `-`. Raises ValueError for one that is there, or cannot be."""
        if name == "-":
            return cls(None, replaces=False)
        path = Path(name)
        if path.is_dir():
            raise ValueError(f"{path} is a folder")
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent} for the page")
        if path.exists() and not replaces:
            raise ValueError(f"{path} is there; --force replaces a file")
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"nothing can be written to {path.parent}")
        return cls(path, replaces=replaces)

    @property
    def is_stdout(self) -> bool:
        """Whether the page is printed."""
        return self._path is None

    def write(self, report: Report) -> str | None:
        """Write the page of an inventory, or give it to be printed."""
        from ..maintenance import InventoryReport  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not
        from .inventory_page import inventory_page  # noqa: PLC0415 - likewise

        assert isinstance(report, InventoryReport)  # noqa: S101 - the one command that has it
        text = inventory_page(report, library_version())
        if self._path is None:
            return text
        try:
            self._put(self._path, text)
        except OSError as error:
            problem = f"the page could not be written to {self._path}: {error.strerror or error}"
        else:
            return None
        raise failed(problem, kind="OSError")

    def _put(self, path: Path, text: str) -> None:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            if self._replaces:
                os.replace(name, path)  # noqa: PTH105 - beside the next line
            else:
                os.link(name, path)  # fails if it has come to be there, which a rename does not
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108 - likewise
