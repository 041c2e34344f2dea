"""The wheel: what is inside, what its metadata promises, and that it works where the tree is out of reach."""

from __future__ import annotations

import email.message
import email.parser
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {
    "agents": {"openai-agents"},
    "aws": {"boto3"},
    "cli": {"rich", "typer"},
    "otel": {"opentelemetry-api"},
    "redis": {"redis"},
    "sql": {"sqlalchemy"},
    "vault": {"hvac"},
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel under test: the one that `make test` installed, else one built now from the tree."""
    if given := os.environ.get("ENCRYPTED_SESSIONS_WHEEL"):
        return Path(given)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def archive(wheel: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel) as opened:
        yield opened


def dist_info(archive: zipfile.ZipFile, name: str) -> str:
    (found,) = [entry for entry in archive.namelist() if entry.endswith(f".dist-info/{name}")]
    return archive.read(found).decode()


def metadata(archive: zipfile.ZipFile) -> email.message.Message:
    return email.parser.Parser().parsestr(dist_info(archive, "METADATA"))


def requirement_name(requirement: str) -> str:
    """`sqlalchemy[asyncio]>=2; extra == 'sql'` -> `sqlalchemy`."""
    for index, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:index]
    return requirement


def test_the_wheel_holds_both_packages_and_nothing_else(archive: zipfile.ZipFile):
    tops = {entry.split("/")[0] for entry in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"encrypted_sessions", "keyproviders"}


def test_the_wheel_holds_only_code_the_typing_marker_and_the_auditors_page(archive: zipfile.ZipFile):
    beside_code = [
        entry
        for entry in archive.namelist()
        if ".dist-info/" not in entry and Path(entry).suffix not in (".py", ".typed")
    ]
    assert beside_code == ["encrypted_sessions/core/README.md"]


def test_the_wheel_holds_the_demo_of_the_first_minutes_and_not_that_of_an_outage(archive: zipfile.ZipFile):
    demo = {Path(entry).name for entry in archive.namelist() if entry.startswith("encrypted_sessions/demo/")}
    assert "conversation.py" in demo
    assert [entry for entry in archive.namelist() if "outage" in entry] == ["keyproviders/ring/outage.py"]


@pytest.mark.parametrize("package", ["encrypted_sessions", "keyproviders"])
def test_both_packages_say_that_they_are_typed(archive: zipfile.ZipFile, package: str):
    assert f"{package}/py.typed" in archive.namelist()


def test_the_wheel_holds_every_module_of_the_tree(archive: zipfile.ZipFile):
    # Where the tests run on a copy without the packages, the wheel's own list is all there is to compare with.
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "keyproviders").rglob("*.py")}
    modules |= {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert modules <= set(archive.namelist())


def test_the_core_needs_little(archive: zipfile.ZipFile):
    always = {
        requirement_name(line) for line in metadata(archive).get_all("Requires-Dist", []) if "extra ==" not in line
    }
    assert always == {"cryptography", "tenacity"}


def test_each_extra_brings_its_sdk(archive: zipfile.ZipFile):
    fields = metadata(archive)
    brought: dict[str, set[str]] = {str(extra): set() for extra in fields.get_all("Provides-Extra", [])}
    for line in fields.get_all("Requires-Dist", []):
        requirement, _, marker = str(line).partition(";")
        for extra, names in brought.items():
            if extra in marker.replace("'", " ").replace('"', " ").split():
                names.add(requirement_name(requirement))
    assert brought == EXTRAS


def test_the_metadata_names_license_python_and_command(archive: zipfile.ZipFile):
    fields = metadata(archive)
    assert fields["Name"] == "encrypted-sessions"
    assert fields["Version"] == "0.2.0"
    assert fields["License-Expression"] == "MIT"
    assert fields["Requires-Python"] == ">=3.10"
    scripts = ConfigParser()
    scripts.read_string(dist_info(archive, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"encrypted-sessions": "encrypted_sessions.cli:main"}
    assert dict(scripts["opentelemetry_instrumentor"]) == {
        "encrypted_sessions": "encrypted_sessions.telemetry:EncryptedSessionsInstrumentor"
    }


def test_the_license_comes_along(archive: zipfile.ZipFile):
    assert dist_info(archive, "licenses/LICENSE").startswith("MIT License")


def test_the_unpacked_wheel_seals_and_opens_without_the_tree(archive: zipfile.ZipFile, tmp_path: Path):
    archive.extractall(tmp_path / "site")
    # -S: no .pth file is read, so an editable install cannot help out. Then the dependencies are added by hand.
    code = f"""
import asyncio, json, sys
sys.path[:0] = [{str(tmp_path / "site")!r}, {sysconfig.get_path("purelib")!r}, {sysconfig.get_path("platlib")!r}]
import encrypted_sessions, keyproviders

class Store:
    session_id = "s"
    def __init__(self): self.rows = []
    async def get_items(self, limit=None): return self.rows if limit is None else self.rows[-limit:]
    async def add_items(self, items): self.rows += items
    async def pop_item(self): return self.rows.pop() if self.rows else None
    async def clear_session(self): self.rows.clear()

async def main():
    store = Store()
    session = encrypted_sessions.EncryptedSession.wrap(store, encrypted_sessions.KeyRing.ephemeral(), ttl=60)
    await session.add_items([{{"role": "user", "content": "hello"}}])
    files = [encrypted_sessions.__file__, keyproviders.__file__]
    print(json.dumps([files, await session.get_items(), "hello" in str(store.rows)]))

asyncio.run(main())
"""
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files, items, in_the_clear = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(tmp_path / "site") for file in files)
    assert items == [{"role": "user", "content": "hello"}]
    assert not in_the_clear
