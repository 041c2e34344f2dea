"""The locks: each line pinned and hashed, each closed, and none of them knows where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [*sorted(ROOT.glob("requirements*.txt")), *sorted(Path(__file__).parent.glob("pip-*.txt"))]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}
# The locks that an environment of the suite can check by what is installed: of the others, most versions differ.
ROOTS = {
    "requirements-dev.txt": ("requirements-dev.in", {"agents", "aws", "cli", "otel", "redis", "sql", "vault"}),
    "requirements-demo.txt": ("requirements-demo.in", {"agents", "cli"}),
}


def environment(python: str, platform: str) -> dict[str, str]:
    """Markers as that Python on that platform sees them; CPython of a late patch release."""
    return {
        **{str(key): str(value) for key, value in default_environment().items()},
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_version": f"{python}.9",
        **PLATFORMS[platform],
    }


def in_force(requirement: Requirement, markers: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(markers)


def dependencies(name: str, version: str, extra: str, markers: dict[str, str]) -> list[Requirement]:
    """What that version wants by its metadata; nothing if another one is installed here, or none.

    Then it is of another Python or platform: there, its own run of the suite looks at it.
    """
    try:
        dist = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return []
    if dist.version != version:
        return []
    return [one for one in map(Requirement, dist.requires or []) if in_force(one, {**markers, "extra": extra})]


def roots(lock: str, markers: dict[str, str]) -> list[Requirement]:
    source, extras = ROOTS[lock]
    lines = (ROOT / source).read_text(encoding="utf-8").splitlines()
    named = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    project = Requirement(f"encrypted-sessions[{','.join(sorted(extras))}]")
    return [project, *(one for one in named if in_force(one, markers))]


def lacking(locked: dict[str, Any], wanted: list[Requirement], markers: dict[str, str]) -> Iterator[str]:
    """Walk from the roots along the metadata of what is installed, and name what is wanted and not locked so."""
    done: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = str(canonicalize_name(requirement.name))
        if name == "encrypted-sessions":
            version = metadata.version(name)
        elif name not in locked:
            yield f"{requirement} is not in it"
            continue
        else:
            version = locked[name].version
            if not requirement.specifier.contains(version, prereleases=True):
                yield f"{requirement} is in it as {version}"
        for extra in {"", *requirement.extras}:
            if (name, extra) not in done:
                done.add((name, extra))
                wanted += dependencies(name, version, extra, markers)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_each_line_of_a_lock_is_pinned_and_hashed(lock: Path, locks: ModuleType):
    lines = locks.read_lock(lock)
    assert lines
    for line in lines:
        assert line.hashes, line.name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in line.hashes), line.name


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_python_finds_a_package_twice_in_a_lock(python: str, platform: str, locks: ModuleType):
    markers = environment(python, platform)
    for lock in LOCKS:
        names = [line.name for line in locks.read_lock(lock) if line.is_for(markers)]
        assert len(names) == len(set(names)), lock.name


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("lock", ROOTS)
def test_a_lock_holds_every_dependency_of_every_package(lock: str, platform: str, python: str, locks: ModuleType):
    markers = environment(python, platform)
    locked = {line.name: line for line in locks.read_lock(ROOT / lock) if line.is_for(markers)}
    assert sorted(lacking(locked, roots(lock, markers), markers)) == []


def test_a_dependency_that_is_not_locked_is_found(locks: ModuleType):
    markers = environment("3.11", "linux")
    locked = {line.name: line for line in locks.read_lock(ROOT / "requirements-dev.txt") if line.is_for(markers)}
    del locked["cffi"], locked["werkzeug"]
    told = " ".join(lacking(locked, roots("requirements-dev.txt", markers), markers))
    assert "cffi" in told, "of cryptography"
    assert "werkzeug" in told, "of moto's extra"


def test_this_environment_has_what_the_lock_says(locks: ModuleType):
    told = locks.differences(ROOT / "requirements-dev.txt")
    assert [line for line in told if not line.endswith("and not locked")] == [], "run `make clean`, and begin anew"


def test_the_demo_has_the_versions_that_the_suite_tests(locks: ModuleType):
    for platform in PLATFORMS:
        for python in PYTHONS:
            markers = environment(python, platform)
            dev, demo = (
                {line.name: line.version for line in locks.read_lock(ROOT / name) if line.is_for(markers)}
                for name in ("requirements-dev.txt", "requirements-demo.txt")
            )
            assert demo.items() <= dev.items()


def test_the_demo_installs_no_tools_of_tests(locks: ModuleType):
    names = {line.name for line in locks.read_lock(ROOT / "requirements-demo.txt")}
    assert not names & {"pytest", "hypothesis", "moto", "mypy", "ruff", "coverage"}


def test_all_locks_were_written_as_of_one_day():
    written = {tuple(re.findall(r"^# .*(UNTIL=\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)) for lock in LOCKS}
    (one,) = written
    assert len(one) == 1
    assert re.fullmatch(r"UNTIL=\d{4}-\d\d-\d\d", one[0])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_index_and_no_path(lock: Path):
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    assert str(Path.home()) not in text
