"""Whose package `keyproviders` this is: ours as it was installed, or what somebody else put in its place.

The name is short, and another distribution may use it too; the one that is installed last wins,
file by file. It imports nothing of `keyproviders`, so it can be asked when that does not import.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

__all__ = ["Installation", "whose_package"]

OURS = "encrypted-sessions"
PACKAGE = "keyproviders"


class Installation(NamedTuple):
    """Where the package comes from.

    `loaded_from`: the file that an import reads, None if there is none. `owners`: the
    distributions that installed a package or module of this name, by name and version. `problem`
    and `advice`: what is wrong and what to do about it, None if nothing is wrong.
    """

    loaded_from: str | None
    owners: tuple[str, ...]
    problem: str | None = None
    advice: str | None = None


class _Owner(NamedTuple):
    dist: metadata.Distribution
    files: dict[str, str]  # of the package: the path in the distribution, and its digest ("" if not noted)

    @property
    def words(self) -> str:
        return f"{self.dist.metadata['Name']} {self.dist.version}"

    @property
    def is_ours(self) -> bool:
        return _same_name(self.dist.metadata["Name"], OURS)


def whose_package(path: Iterable[str] | None = None) -> Installation:
    """Look at what is installed on `path` (a list of folders as `sys.path` is; None: that one).

    Reads the lists of files that the installers left, and this package's files.
    """
    folders = None if path is None else list(path)
    found = [*(metadata.distributions() if folders is None else metadata.distributions(path=folders))]
    owners = list(_owners(found))
    origin = _origin(folders)
    words = tuple(sorted({owner.words for owner in owners}))
    problem, advice = _judge(origin, owners, found)
    return Installation(None if origin is None else str(origin), words, problem, advice)


def _judge(
    origin: Path | None, owners: list[_Owner], found: list[metadata.Distribution]
) -> tuple[str | None, str | None]:
    others = [owner for owner in owners if not owner.is_ours]
    ours = next((owner for owner in owners if owner.is_ours), None)
    again = f"pip install --force-reinstall --no-deps {OURS}"
    if others:
        names = " and ".join(owner.words for owner in others)
        uninstall = " ".join(sorted({owner.dist.metadata["Name"] for owner in others}))
        return (
            (
                f"{names} also installed a package {PACKAGE}; of two files with the same name, the one installed last"
                " is used"
            ),
            f"pip uninstall {uninstall}, then {again}; if you need both, use separate environments",
        )
    if origin is None:
        return f"there is no package {PACKAGE} to import", again
    folder = _editable_folder(found) if ours is None else None
    if ours is None:
        if folder is not None and not origin.is_relative_to(folder):
            return f"{PACKAGE} is loaded from {origin} instead of {folder}", _make_way(origin)
        return None, None  # a tree that is not installed, or is installed to be edited: nothing to compare with
    expected = Path(str(ours.dist.locate_file(f"{PACKAGE}/__init__.py"))).resolve()
    if origin != expected:
        return f"{PACKAGE} is loaded from {origin} instead of {expected}, where it was installed", _make_way(origin)
    changed = [
        file for file, digest in sorted(ours.files.items()) if digest and not _is_as_installed(ours, file, digest)
    ]
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        return f"{shown}: changed since {ours.words} was installed", f"{again}; find out who changed it"
    return None, None


def _make_way(origin: Path) -> str:
    return f"rename or remove {origin}, or take its folder off the import path (PYTHONPATH, the folder you start in)"


def _owners(found: Iterable[metadata.Distribution]) -> Iterator[_Owner]:
    for dist in found:
        record = dist.read_text("RECORD") or ""
        # Most distributions are done with after one look.
        if PACKAGE not in record:
            continue
        files = {row[0]: row[1] if len(row) > 1 else "" for row in csv.reader(record.splitlines()) if row}
        mine = {name: digest for name, digest in files.items() if _is_of_package(name)}
        if mine:
            yield _Owner(dist, mine)


def _is_of_package(name: str) -> bool:
    return name == f"{PACKAGE}.py" or (name.startswith(f"{PACKAGE}/") and name.endswith(".py"))


def _is_as_installed(owner: _Owner, file: str, noted: str) -> bool:
    algorithm, _, digest = noted.partition("=")
    if algorithm != "sha256":
        return True
    try:
        content = Path(str(owner.dist.locate_file(file))).read_bytes()
    except OSError:
        return False
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode() == digest


def _origin(folders: list[str] | None) -> Path | None:
    if folders is None:
        spec = util.find_spec(PACKAGE)
    else:
        from importlib.machinery import PathFinder  # noqa: PLC0415 - for a path other than this process's

        spec = PathFinder.find_spec(PACKAGE, folders)
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve()


def _editable_folder(found: Iterable[metadata.Distribution]) -> Path | None:
    """The folder of a tree that was installed to be edited."""
    for dist in found:
        if _same_name(dist.metadata["Name"], OURS):
            source = json.loads(dist.read_text("direct_url.json") or "{}")
            if source.get("dir_info", {}).get("editable"):
                return Path(unquote(urlsplit(source["url"]).path)).resolve()
            return next(_folders_on_the_path(dist), None)
    return None


def _folders_on_the_path(dist: metadata.Distribution) -> Iterator[Path]:
    """The folders with our package that a distribution puts on the import path: how a build tool makes a tree editable.

    An installer that was given such a build as a wheel notes nowhere that it is one.
    """
    for file in dist.files or ():
        if file.suffix == ".pth":
            for line in Path(str(dist.locate_file(file))).read_text(encoding="utf-8").splitlines():
                folder = Path(line).resolve()
                if (folder / PACKAGE / "__init__.py").is_file():
                    yield folder


def _same_name(one: str | None, other: str) -> bool:
    return one is not None and one.lower().replace("_", "-").replace(".", "-") == other
