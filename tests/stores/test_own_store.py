"""docs/write-your-own-store.md: its store passes the suites, and is found by its entry points alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import ROOT, blocks
from keyproviders import Key

PAGE = ROOT / "docs" / "write-your-own-store.md"
GROUP = "encrypted_sessions.stores"


def the_store() -> str:
    return "\n\n".join(block.text for block in blocks(PAGE, "python") if "Conformance" not in block.text)


def the_tests() -> str:
    (found,) = (block.text for block in blocks(PAGE, "python") if "Conformance" in block.text)
    return found


def entry_points() -> dict[str, str]:
    """Those that the page declares."""
    (declared,) = (block.text for block in blocks(PAGE, "toml"))
    return dict(re.findall(r'^"(.+)" = "(.+)"$', declared.partition(f'entry-points."{GROUP}"]')[2], re.MULTILINE))


def install(site: Path, name: str, text: str, declared: Mapping[str, str]) -> None:
    """A package as an installer would leave it."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    lines = "".join(f"{key} = {value}\n" for key, value in declared.items())
    files = {
        f"{module}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{GROUP}]\n{lines}",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel = site.parent / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the store of the page, and with packages that offer what they should not."""
    site = tmp_path_factory.mktemp("own-store") / "site"
    install(site, "shelf-store", the_store(), entry_points())
    loud = "from shelf_store import *\nprint('loaded', __name__)\nnonsense = 'no descriptor'\n"
    taken = {
        "agents.memory.sqlite_session.SQLiteSession": "taking_over:SHELF",
        "sqlite": "taking_over:SHELF",
        "twice": "taking_over:SHELF",
        "nonsense": "taking_over:nonsense",
        "shelves": "taking_over:SHELF",
    }
    install(site, "taking-over", loud, taken)
    install(site, "another", loud, {"twice": "another:SHELF"})
    return site


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def run(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), *sys.path]),
        "SESSION_KEYS": Key(None, bytes(n * n % 251 for n in range(32))).reveal_base64(),
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def printed(site: Path, folder: Path, program: str, *arguments: str) -> list[str]:
    done = run(site, folder, "-c", program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_store_of_the_page_passes_the_suites_of_the_page(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_shelf.py").write_text(f"from shelf_store import *\n{the_tests()}", encoding="utf-8")
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio", "test_shelf.py"]
    done = run(site, tmp_path, "-m", "pytest", *options)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b3\d passed", done.stdout), done.stdout


SESSION = """
import asyncio, sys
from shelf_store import ShelfSession
from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions.stores import RowStore, store_beneath

async def main():
    async with KeyRing.from_url("env:SESSION_KEYS") as keys:
        store = ShelfSession("user-1", sys.argv[1])
        assert isinstance(store_beneath(store), RowStore)
        session = EncryptedSession.wrap(store, keys, ttl=600, purge_on_add=5)
        await session.add_items([{"role": "user", "content": text} for text in "abc"])
        print(await session.pop_item())
        print(len(await session.get_items()), "__enc__" in (await store.get_items())[0])
        with store.rows() as rows:
            (*_, newest) = rows
            rows[newest] = "no json"
        assert await session.purge_expired() == 0
        try:
            await session.pop_item()
        except Exception as error:
            print(type(error).__name__)

asyncio.run(main())
"""


def test_its_sessions_have_rows_and_the_commands_take_its_url(site: Path, shelf: Path) -> None:
    out = printed(site, shelf, SESSION, str(shelf))
    assert out == ["{'role': 'user', 'content': 'c'}", "2 True", "UnreadableItemsError"]
    url = f"shelf://{shelf}"
    done = run(site, shelf, "-m", "encrypted_sessions.cli", "inventory", url, "--keys", "env:SESSION_KEYS", "--json")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["store"] == f"the shelf {shelf}", done.stderr
    assert {group["outcome"]: group["items"] for group in told["groups"]} == {"ok": 1, "malformed": 1}
    done = run(site, shelf, "-m", "encrypted_sessions.cli", "erase", url, "--session", "user-1", "--yes")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in shelf.iterdir()] == [".lock"]


def test_no_file_of_this_library_is_touched_for_it() -> None:
    touched = [
        path
        for folder in (ROOT / "src", ROOT / "keyproviders")
        for path in folder.rglob("*.py")
        if re.search("shelf_store|ShelfSession|shelf://", path.read_text(encoding="utf-8"))
    ]
    assert touched == []


REFUSAL = """
from encrypted_sessions.errors import StoreConfigError
from encrypted_sessions.stores.urls import open_store
try:
    print(type(open_store({url!r})).__name__)
except StoreConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///a.db", "SQLiteStore"),
        ("SHELF:///a", "WholeShelf"),
        (
            "twice:///a",
            "several packages offer a store for URLs that begin with twice:: another (another:SHELF)",
        ),
        ("nonsense:///a", "taking_over:nonsense, which is installed as the store for URLs that begin with nonsense:"),
        ("shelves:///a", "is not a StoreDescriptor with that name in its schemes"),
        ("shelf+driver:///a", "whole stores of the kind shelf+driver:// are not supported"),
        ("shelf://user:hidden@host/a", "the store's URL holds a password"),
    ],
)
def test_what_is_installed_takes_nothing_over(site: Path, tmp_path: Path, url: str, words: str) -> None:
    (*loaded, out) = printed(site, tmp_path, REFUSAL.format(url=url))
    assert out.startswith(words) or words in out
    assert bool(loaded) == (url.startswith(("nonsense", "shelves"))), "only what is asked for is loaded"


def test_the_sdks_classes_stay_with_their_own_rows(site: Path, tmp_path: Path) -> None:
    program = """
import sys
from agents import SQLiteSession
from encrypted_sessions.stores import store_beneath
session = SQLiteSession("user-1", "a.db")
print(type(store_beneath(session)).__name__)
session.close()
"""
    assert printed(site, tmp_path, program) == ["SQLiteRows"]


def test_importing_looks_for_no_packages(site: Path, tmp_path: Path) -> None:
    program = "import sys, encrypted_sessions.stores.urls; print('importlib.metadata' in sys.modules)"
    assert printed(site, tmp_path, program) == ["False"]
