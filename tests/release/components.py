"""What the package and its extras install, by `requirements-extras.txt`: names, versions, and who asks for whom.

The lock is made of `pyproject.toml` alone, so it is what a user gets who installs on its day, and nothing of what
development adds. Standard library and `packaging` only, so that tests and tools can use it alike.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ROOT", "Installed", "closure", "direct", "extras_of", "project_table", "read_extras_lock", "read_licences"]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "encrypted-sessions"
_PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)(?:\s*;\s*(.+?))?\s*\\?$")
_VIA = re.compile(r"#\s+(?:via\s+)?(?!-c )([a-z0-9][a-z0-9._-]*)(?: \(pyproject\.toml\))?$")


@dataclass
class Installed:
    """One pin: some packages have one version for old Pythons and another for newer ones."""

    name: str
    version: str
    marker: str | None
    asked_for_by: set[str] = field(default_factory=set)

    @property
    def ref(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def read_extras_lock() -> list[Installed]:
    """The pins of the lock, in its order."""
    found: list[Installed] = []
    for line in (ROOT / "requirements-extras.txt").read_text(encoding="utf-8").splitlines():
        if pin := _PIN.match(line):
            found.append(Installed(pin[1], pin[2], pin[3]))
        elif found and (via := _VIA.search(line.strip())):
            found[-1].asked_for_by.add(via[1])
    return found


def project_table() -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def direct() -> dict[str, set[str]]:
    """Which packages the core asks for itself (under the empty name), and each extra."""
    project = project_table()
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: {str(canonicalize_name(Requirement(one).name)) for one in asked} for extra, asked in lists.items()}


def closure(roots: Iterable[str], installed: Iterable[Installed]) -> set[str]:
    """These packages, and all that they ask for in turn."""
    found = set(roots)
    while more := {one.name for one in installed if one.asked_for_by & found} - found:
        found |= more
    return found


def extras_of(installed: list[Installed]) -> dict[str, list[str]]:
    """For each package the extras that bring it, sorted; first an empty name where the core does."""
    brought = {extra: closure(roots, installed) for extra, roots in direct().items()}
    return {one.name: sorted(extra for extra, names in brought.items() if one.name in names) for one in installed}


def read_licences() -> dict[str, str]:
    """The licence of each package, by the table of docs/dependencies.md."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| [^|]* \| ([^|]+?) \|", text, re.MULTILINE)
    return dict(rows)
