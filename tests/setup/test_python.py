"""`make` finds a Python that serves, and says in words when there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def pretend(folder: Path, name: str, version: str | None, *, makes_venvs: bool = True) -> Path:
    """A Python of that version; None is the shim of a version manager that leads nowhere."""
    if version is None:
        lines = ["echo 'no such version' >&2", "exit 127"]
    else:
        can = "exit 0" if makes_venvs else "exit 1"
        lines = [f"case $2 in *version_info*) echo {version} ;; *ensurepip*) {can} ;; *) exit 2 ;; esac"]
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def find(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Nothing but the folder is on PATH: the script needs no program beside the shell's own."""
    command = ["/bin/sh", str(ROOT / ".ci" / "find-python"), *words]
    environment = {"PATH": str(folder), "HOME": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_newest_python_is_found(bin_folder: Path):
    for name in NAMES[:-1]:
        pretend(bin_folder, name, name.removeprefix("python"))
    pretend(bin_folder, "python3", "3.10")
    for name in NAMES:
        assert find(bin_folder).stdout == f"{name}\n"
        (bin_folder / name).unlink()


def test_a_shim_that_leads_nowhere_is_passed_over(bin_folder: Path):
    pretend(bin_folder, "python3.13", None)
    pretend(bin_folder, "python3.10", "3.10")
    assert find(bin_folder).stdout == "python3.10\n"


def test_a_python_that_cannot_make_environments_is_passed_over(bin_folder: Path):
    pretend(bin_folder, "python3.13", "3.13", makes_venvs=False)
    pretend(bin_folder, "python3.11", "3.11")
    assert find(bin_folder).stdout == "python3.11\n"


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.15"])
def test_a_python_that_was_not_tried_is_passed_over(bin_folder: Path, version: str):
    pretend(bin_folder, "python3", version)
    found = find(bin_folder)
    assert (found.returncode, found.stdout) == (1, "")
    assert f"python3 is Python {version}" in found.stderr


def test_where_there_is_none_it_is_said_what_was_found_and_what_to_do(bin_folder: Path):
    pretend(bin_folder, "python3.13", None)
    pretend(bin_folder, "python3.12", "3.12", makes_venvs=False)
    pretend(bin_folder, "python3", "3.9")
    found = find(bin_folder)
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        "This needs a Python from 3.10 to 3.14 that can make virtual environments, and none was found.",
        "  python3.13 does not run",
        "  python3.12 cannot make virtual environments (on Debian: apt-get install python3.12-venv)",
        "  python3 is Python 3.9",
        "Install one (on Debian: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3",
    ]


def test_the_python_that_is_named_is_taken(bin_folder: Path):
    pretend(bin_folder, "python3.13", "3.13")
    named = pretend(bin_folder, "mine", "3.10")
    assert find(bin_folder, str(named)).stdout == f"{named}\n"


def test_a_named_python_may_be_newer_than_those_that_were_tried(bin_folder: Path):
    assert find(bin_folder, str(pretend(bin_folder, "mine", "3.15"))).returncode == 0


@pytest.mark.parametrize("version", [None, "3.9"])
def test_a_named_python_that_does_not_serve_is_refused_with_its_name(bin_folder: Path, version: str | None):
    pretend(bin_folder, "python3.13", "3.13")
    named = pretend(bin_folder, "mine", version)
    found = find(bin_folder, str(named))
    assert (found.returncode, found.stdout) == (1, "")
    assert str(named) in found.stderr


def test_all_of_them_are_one_of_each_version(bin_folder: Path):
    pretend(bin_folder, "python3.12", "3.12")
    pretend(bin_folder, "python3.10", "3.10")
    pretend(bin_folder, "python3", "3.12")
    elsewhere = bin_folder / ".pyenv" / "versions" / "3.11.7" / "bin"
    elsewhere.mkdir(parents=True)
    third = pretend(elsewhere, "python3", "3.11")
    assert find(bin_folder, "--all").stdout.split() == ["python3.12", "python3.10", str(third)]


def test_make_says_the_same_words(tmp_path: Path):
    command = [
        "make",
        "-C",
        str(ROOT),
        f"VENV={tmp_path}/venv",
        "PYTHON=/nonexistent/python3",
        f"{tmp_path}/venv/.ready",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "/nonexistent/python3 is not there" in done.stderr
    assert "make PYTHON=/path/to/python3" in done.stderr


def test_this_python_serves():
    command = [str(ROOT / ".ci" / "find-python"), sys.executable]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{sys.executable}\n"
