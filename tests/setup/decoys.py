"""A folder of decoys: an empty wheel of version 999 for each package of a lock, and for what builds packages.

    python tests/setup/decoys.py FOLDER LOCK...

Given to pip by PIP_FIND_LINKS, it is what an index will be in years: newer than the lock in everything. Whatever set-up
leaves to a resolver, or to a build of its own, takes a decoy, and fails or shows in what is installed.

It needs nothing but Python, since it runs before set-up does.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

BUILDERS = ("setuptools", "wheel", "hatchling", "flit-core", "poetry-core")
VERSION = "999"


def write_wheel(
    folder: Path, name: str, version: str, *, requires: Iterable[str] = (), files: Mapping[str, str] | None = None
) -> Path:
    """A wheel of pure Python with these files, and nothing else; no file at all makes an empty one."""
    stem = f"{re.sub('[-_.]+', '_', name)}-{version}"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {one}" for one in requires),
    ]
    content = {
        **(files or {}),
        f"{stem}.dist-info/METADATA": "\n".join(metadata) + "\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: decoys\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},{_digest(text)},{len(text.encode())}" for path, text in content.items()]
    content[f"{stem}.dist-info/RECORD"] = "\n".join([*record, f"{stem}.dist-info/RECORD,,"]) + "\n"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_within, text in content.items():
            archive.writestr(name_within, text)
    return path


def _digest(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def locked_names(lock: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", lock.read_text(encoding="utf-8"), re.MULTILINE))


def write_decoys(folder: Path, locks: Iterable[Path]) -> list[str]:
    """Fill the folder, and return the names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({*BUILDERS, *(name for lock in locks for name in locked_names(lock))})
    for name in names:
        write_wheel(folder, name, VERSION)
    return names


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.stdout.write(f"{len(write_decoys(Path(sys.argv[1]), map(Path, sys.argv[2:])))} decoys in {sys.argv[1]}\n")
