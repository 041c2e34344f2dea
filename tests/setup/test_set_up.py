"""Set-up installs what the lock says, whatever an index has by then and whichever pip a Python ships.

The recipes are those of the Makefile. The packages are small ones made here, so that nothing is fetched: a lock in
which one package wants another with an extra, as pytest-cov wants coverage[toml] and mcp wants pyjwt[crypto]. What is
newer than the lock are decoys: see decoys.py.
"""

from __future__ import annotations

import ensurepip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = "requirements-dev.txt"
# A build tool with just what the Makefile asks of hatchling: a wheel that leads to the tree.
BUILD_TOOL = """
import sys
from pathlib import Path

sys.path.insert(0, {here!r})
from decoys import write_wheel

assert sys.argv[1:4] == ["build", "--target", "wheel:editable"], sys.argv
folder = Path(sys.argv[5])
folder.mkdir(parents=True)
files = {{"tree.pth": str(Path.cwd()) + "\\n"}}
write_wheel(folder, "encrypted-sessions", "1.0", requires=["measured>=1"], files=files)
"""
PINNED = {"hatchling": "1.0", "measured": "1.0", "plugin": "1.0", "reader": "1.0"}


def shipped() -> Path:
    """The wheel of the pip that this Python puts into a new environment."""
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).with_name("_bundled")
    return next(Path(folder).glob("pip-*.whl"))


def pips() -> list[Path]:
    """The pip that this Python ships; and the oldest and the newest, where `make` has fetched them."""
    fetched = sorted((Path(sys.prefix) / "pips").glob("pip-*.whl"))
    # Pips before 23.1 do not run on Python 3.12.
    return [shipped(), *(one for one in fetched if sys.version_info < (3, 12) or _release(one) >= (23, 1))]


def _release(wheel: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in wheel.name.split("-")[1].split("."))


def pip_name(wheel: Path) -> str:
    return "-".join(wheel.name.split("-")[:2])


@dataclass(frozen=True)
class Site:
    """A small project with a lock, and an index that has become newer than it."""

    project: Path
    wheels: Path
    decoys: Path
    pips: Path

    def make(self, *words: str, pip: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run make with that pip, or with the one that this Python ships."""
        pip = pip or shipped()
        # Unpacked and kept, since to compile a pip takes longer than all that it does here.
        unpacked = self.pips / pip_name(pip)
        if not unpacked.exists():
            with zipfile.ZipFile(pip) as archive:
                archive.extractall(unpacked)
        settings = {"PYTHON": sys.executable, "WHEELS": str(self.wheels), "PIP": str(unpacked / "pip"), **settings}
        command = ["make", *words, *(f"{name}={value}" for name, value in settings.items())]
        return self.run(*command)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # Nothing of the settings of this machine, and nothing of the make that may have started the tests.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        environment = {
            **kept, "PIP_FIND_LINKS": str(self.decoys), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1",
        }  # fmt: skip
        return subprocess.run(
            command, cwd=self.project, env=environment, capture_output=True, text=True, check=False, timeout=200
        )

    def installed(self) -> dict[str, str]:
        code = (
            "import json; from importlib import metadata;"
            "print(json.dumps({d.metadata['Name']: d.version for d in metadata.distributions()}))"
        )
        told: dict[str, str] = json.loads(self.run(".venv/bin/python", "-c", code).stdout)
        return {name: version for name, version in told.items() if name not in {"pip", "setuptools"}}


@pytest.fixture(scope="module")
def unpacked_pips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pips")


@pytest.fixture
def site(tmp_path: Path, unpacked_pips: Path, decoys: ModuleType) -> Site:
    site = Site(tmp_path / "project", tmp_path / "wheels", tmp_path / "decoys", unpacked_pips)
    site.project.mkdir()
    site.wheels.mkdir()
    shutil.copy(ROOT / "Makefile", site.project)
    shutil.copytree(ROOT / ".ci", site.project / ".ci")
    (site.project / "pyproject.toml").touch()
    build_tool = BUILD_TOOL.format(here=str(Path(__file__).parent))
    files = {"hatchling/__init__.py": "", "hatchling/__main__.py": build_tool}
    made = [
        decoys.write_wheel(site.wheels, "hatchling", "1.0", files=files),
        decoys.write_wheel(site.wheels, "measured", "1.0", requires=["reader>=1; extra == 'toml'"]),
        decoys.write_wheel(site.wheels, "plugin", "1.0", requires=["measured[toml]>=1"]),
        decoys.write_wheel(site.wheels, "reader", "1.0"),
    ]
    lines = [
        f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        for wheel, (name, version) in zip(made, PINNED.items(), strict=True)
    ]
    (site.project / LOCK).write_text("".join(lines), encoding="utf-8")
    decoys.write_decoys(site.decoys, [site.project / LOCK])
    return site


@pytest.mark.parametrize("pip", pips(), ids=pip_name)
def test_set_up_comes_out_exactly_as_locked_beside_decoys(site: Site, pip: Path):
    done = site.make(".venv/.ready", pip=pip)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.installed() == {**PINNED, "encrypted-sessions": "1.0"}
    # A word of warning would be the first sign of a set-up that rots.
    assert done.stderr == ""


@pytest.mark.parametrize("pip", [one for one in pips() if _release(one) < (23, 3)], ids=pip_name)
def test_with_a_resolver_an_old_pip_takes_an_extra_past_its_pin(site: Site, pip: Path):
    """The fault of 0.1.0, six days after its lock was made."""
    done = site.make(".venv/.requirements", LOCKED=f"--require-hashes --no-index --find-links {site.wheels}", pip=pip)
    assert done.returncode != 0
    assert "all requirements must have their versions pinned" in done.stderr
    assert "measured[toml]" in done.stderr
    assert "999" in done.stderr


def test_a_build_would_take_a_decoy(site: Site):
    """What is locked reaches no build that pip makes a place of its own for: so nothing is built."""
    assert "--only-binary :all:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    folder = site.project / "source"
    folder.mkdir()
    project = "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    done = site.run(sys.executable, "-m", "pip", "wheel", "--verbose", "--no-index", "--no-deps", str(folder))
    assert done.returncode != 0
    assert "hatchling-999" in done.stdout + done.stderr


def test_a_lock_that_lacks_a_dependency_stops_set_up_with_its_name(site: Site):
    lock = site.project / LOCK
    lock.write_text("".join(lock.read_text(encoding="utf-8").splitlines(keepends=True)[:-2]), encoding="utf-8")
    lock.write_text(re.sub(r"(?m)^measured==.*\n", "", lock.read_text(encoding="utf-8")), encoding="utf-8")
    done = site.make(".venv/.ready")
    assert done.returncode != 0
    assert "measured" in done.stderr
    assert not (site.project / ".venv" / ".ready").exists()


def test_a_wheel_that_is_not_the_locked_one_stops_set_up(site: Site, decoys: ModuleType):
    decoys.write_wheel(site.wheels, "reader", "1.0", files={"reader.py": "print('not what was locked')"})
    done = site.make(".venv/.requirements")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (site.project / ".venv" / ".requirements").exists()


def test_set_up_begins_anew_when_the_lock_changes(site: Site):
    assert site.make(".venv/.requirements").returncode == 0
    lock = site.project / LOCK
    lock.write_text(re.sub(r"(?m)^plugin==.*\n", "", lock.read_text(encoding="utf-8")), encoding="utf-8")
    os.utime(lock, (2**31, 2**31))
    assert site.make(".venv/.requirements").returncode == 0
    assert "plugin" not in site.installed()
