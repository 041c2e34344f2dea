"""What a lock says, and whether an environment is what it says.

    .venv/bin/python tests/setup/locks.py LOCK...

ends with an error that names each package that is not installed as it is locked, and each that is installed and not
locked. It needs `packaging`, which every lock of this project has.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.utils import canonicalize_name

# What Python itself puts into a new environment, and the project.
NOT_LOCKED = {"pip", "setuptools", "encrypted-sessions"}
_LINE = re.compile(r"([a-z0-9][a-z0-9._-]*)==([^\s;]+)(?: *; *(.+))?")


@dataclass(frozen=True)
class Locked:
    """A line of a lock, with those that it goes on in."""

    name: str
    version: str
    marker: Marker | None
    hashes: tuple[str, ...]

    def is_for(self, environment: dict[str, str]) -> bool:
        return self.marker is None or self.marker.evaluate(environment)


def logical_lines(lock: Path) -> list[str]:
    """The lines without comments, each with those that it goes on in."""
    text = re.sub(r"^ *#.*\n", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", "").splitlines() if line.strip()]


def read_lock(lock: Path) -> list[Locked]:
    """Raises ValueError for a line that is not pinned."""
    found = []
    for line in logical_lines(lock):
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        match = _LINE.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{lock.name} has a line that pins nothing: {line}")
        name, version, marker = match.groups()
        found.append(Locked(name, version, Marker(marker) if marker else None, tuple(hashes)))
    return found


def differences(*locks: Path) -> list[str]:
    """How the environment of this process differs from what these locks together say for it."""
    here = {str(key): str(value) for key, value in default_environment().items()}
    locked = {one.name: one.version for lock in locks for one in read_lock(lock) if one.is_for(here)}
    installed = {str(canonicalize_name(dist.metadata["Name"])): dist.version for dist in metadata.distributions()}
    wrong = [
        f"{name} is locked as {version}, and installed as {installed.get(name, 'nothing')}"
        for name, version in locked.items()
        if installed.get(name) != version
    ]
    more = sorted(installed.keys() - locked.keys() - NOT_LOCKED)
    return wrong + [f"{name} {installed[name]} is installed, and not locked" for name in more]


if __name__ == "__main__":
    told = differences(*map(Path, sys.argv[1:]))
    if told:
        sys.exit("\n".join(told))
    sys.stdout.write(f"{sys.prefix} is what {' and '.join(sys.argv[1:])} says\n")
