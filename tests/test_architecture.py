"""The walls between the parts: who imports whom, how much an auditor must read, what an import loads and does."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import keyproviders

# What an auditor reads to know what a version stores, and all that is done with a key: core/README.md says how much.
SUITE_1 = ("derivation", "envelope", "suites/fernet_v1")
SUITE_1_LINES = 400
SUITE_2 = ("envelope", "suites/aes_gcm_v2")
#: Opening many rows in one call for each is a fifth of suite 2's module: `get_items` takes two thirds of its time so.
SUITE_2_LINES = 460
CRYPTOGRAPHY = (*SUITE_1, "cipher", "suites/__init__", "suites/suite")
CRYPTOGRAPHY_LINES = 650
LOADED_ONLY_WHEN_USED = (
    "agents",
    "boto3",
    "hvac",
    "opentelemetry",
    "pydantic",
    "redis",
    "rich",
    "sqlalchemy",
    "tenacity",
    "typer",
)


def folder_of(package: str) -> Path:
    """Where the copy under test lies: the tree's, or the installed wheel's."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def imports_of(path: Path, package: str) -> Iterator[tuple[str, str | None]]:
    """Each import in a file as (module, name), the name None for `import module`. Relative ones are spelled out."""
    folder = folder_of(package)
    parents = [package, *path.relative_to(folder).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            yield from ((module, alias.name) for alias in node.names)


def imports_of_package(package: str) -> Iterator[tuple[str, str, str | None]]:
    for path in sorted(folder_of(package).rglob("*.py")):
        for module, name in imports_of(path, package):
            yield path.name, module, name


def in_a_fresh_interpreter(code: str) -> object:
    """What the code prints as JSON."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_keyproviders_never_imports_encrypted_sessions():
    offending = [
        found for found in imports_of_package("keyproviders") if found[1].split(".")[0] == "encrypted_sessions"
    ]
    assert offending == []


def test_encrypted_sessions_imports_only_the_public_names_of_keyproviders():
    found = [entry for entry in imports_of_package("encrypted_sessions") if entry[1].split(".")[0] == "keyproviders"]
    assert found, "nothing imports keyproviders: this test looks in the wrong place"
    offending = [
        (file, module, name)
        for file, module, name in found
        if module != "keyproviders" or name is None or name not in keyproviders.__all__
    ]
    assert offending == []


def test_the_core_imports_nothing_else_of_its_package():
    folder = folder_of("encrypted_sessions")
    found = {path: set(imports_of(path, "encrypted_sessions")) for path in (folder / "core").rglob("*.py")}
    assert len(found) >= len(CRYPTOGRAPHY), "this test looks in the wrong place"
    offending = [
        (path.name, module, name)
        for path, imports in found.items()
        for module, name in imports
        if module.split(".")[0] in ("encrypted_sessions", "keyproviders") and module.split(".")[:2][-1] != "core"
    ]
    assert offending == []


@pytest.mark.parametrize("package", ["encrypted_sessions", "keyproviders"])
def test_no_module_imports_the_face_of_its_own_package(package: str):
    """A name comes from the module that defines it, so that no import runs in a circle through the face."""
    folder = folder_of(package)
    inside = {path.stem if path.suffix else path.name for path in folder.iterdir()}
    offending = [
        found
        for found in imports_of_package(package)
        if found[1] == package and found[2] not in inside | {"__version__"}
    ]
    assert offending == []


def test_only_the_core_knows_its_suites():
    folder = folder_of("encrypted_sessions")
    offending = [
        (path.name, module)
        for path in folder.rglob("*.py")
        if "core" not in path.relative_to(folder).parts
        for module, _ in imports_of(path, "encrypted_sessions")
        if module.startswith("encrypted_sessions.core.suites")
    ]
    assert offending == []


@pytest.mark.parametrize(
    ("modules", "most"),
    [(SUITE_1, SUITE_1_LINES), (SUITE_2, SUITE_2_LINES), (CRYPTOGRAPHY, CRYPTOGRAPHY_LINES)],
)
def test_the_core_is_short_enough_to_be_read(modules: tuple[str, ...], most: int):
    folder = folder_of("encrypted_sessions") / "core"
    lines = {module: len((folder / f"{module}.py").read_text(encoding="utf-8").splitlines()) for module in modules}
    assert sum(lines.values()) <= most, lines
    assert f"{most} lines" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_auditors_page_names_every_module_of_the_core():
    folder = folder_of("encrypted_sessions") / "core"
    page = (folder / "README.md").read_text(encoding="utf-8")
    modules = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if path.name != "__init__.py"}
    assert {module for module in modules if f"`{module}`" not in page} == set()


@pytest.mark.parametrize("package", ["encrypted_sessions", "keyproviders"])
def test_an_import_loads_no_sdk(package: str):
    code = f"import json, sys, {package}; print(json.dumps(sorted(sys.modules)))"
    loaded = {str(name).split(".")[0] for name in in_a_fresh_interpreter(code)}
    assert package in loaded
    assert loaded & set(LOADED_ONLY_WHEN_USED) == set()


@pytest.mark.parametrize("package", ["encrypted_sessions", "keyproviders"])
def test_an_import_does_no_io(package: str):
    # Reading modules is what an import is; all else would show here.
    code = f"""
import json, os, sys, threading
sys.dont_write_bytecode = True
seen = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def watch(event, args):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.fork", "os.exec", "os.spawn", "sqlite3.")):
        seen.append(event)
    elif event == "open" and isinstance(args[2], int) and args[2] & WRITING:
        seen.append(f"open {{args[0]}}")
sys.addaudithook(watch)
import {package}
threads = [thread.name for thread in threading.enumerate()]
print(json.dumps([seen, threads]))
"""
    assert in_a_fresh_interpreter(code) == [[], ["MainThread"]]


#: Who imports by name: the faces that load what is asked for, the tables of plugins, and the SDKs of the extras.
TABLES = {
    "keyproviders/__init__.py",
    "keyproviders/_support/extras.py",
    "keyproviders/registry.py",
    "encrypted_sessions/__init__.py",
    "encrypted_sessions/maintenance/__init__.py",
    "encrypted_sessions/stores/__init__.py",
    "encrypted_sessions/stores/descriptor.py",
}


def test_nothing_hides_behind_an_import_by_name_but_the_tables_of_plugins():
    hidden = set()
    for package in ("encrypted_sessions", "keyproviders"):
        folder = folder_of(package)
        for path in folder.rglob("*.py"):
            names = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(ast.parse(path.read_text()))}
            if names & {"import_module", "__import__"}:
                hidden.add(f"{package}/{path.relative_to(folder).as_posix()}")
    assert hidden <= TABLES
    assert "keyproviders/registry.py" in hidden, "this test looks in the wrong place"


@pytest.mark.parametrize("room", ["aws", "local", "vault"])
def test_a_room_of_providers_loads_nothing_of_keysets(room: str):
    code = f"import json, sys, keyproviders.{room}; print(json.dumps(sorted(sys.modules)))"
    loaded = in_a_fresh_interpreter(code)
    assert isinstance(loaded, list)
    assert f"keyproviders.{room}" in loaded
    assert [name for name in loaded if name.startswith("keyproviders.keyset")] == []


def test_no_statement_has_numbered_placeholders():
    """Python 3.12.0 to 3.12.3 take them for named ones, for which a sequence of values is deprecated."""
    folder = folder_of("encrypted_sessions") / "stores" / "sqlite"
    assert not [path.name for path in folder.glob("*.py") if re.search(r"\?\d", path.read_text(encoding="utf-8"))]
