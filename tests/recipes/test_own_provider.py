"""docs/write-your-own-provider.md: its class passes the suite, and its package opens by URL."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import ROOT, blocks
from keyproviders import Key

PAGE = ROOT / "docs" / "write-your-own-provider.md"


def the_class() -> str:
    return blocks(PAGE, "python")[0].text


def the_tests() -> str:
    (found,) = (block.text for block in blocks(PAGE, "python") if "KeyProviderConformance" in block.text)
    return found


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in ("2026-05", "2026-11"):
        (folder / name).write_text(Key.generate().reveal_base64(), encoding="ascii")
    (folder / "newest").write_text("2026-11\n", encoding="ascii")
    return folder


def environment(*first: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, first), *sys.path])}


def block_with(text: str) -> str:
    (found,) = (block.text for block in blocks(PAGE, "python") if text in block.text)
    return found


def test_the_class_of_the_page_passes_the_suite_of_the_page(shelf: Path, tmp_path: Path) -> None:
    given = f"from pathlib import Path\nfrom shelf_keys import ShelfProvider\n\nshelf = Path({str(shelf)!r})\n"
    (tmp_path / "shelf_keys.py").write_text(the_class(), encoding="utf-8")
    (tmp_path / "test_shelf.py").write_text(given + the_tests(), encoding="utf-8")
    assert 10 <= passed_by("test_shelf.py", tmp_path) < 20


def test_the_wrapper_and_the_store_of_the_page_pass_the_suites_of_the_page(tmp_path: Path) -> None:
    for key in ("agents", "agents-2"):
        (tmp_path / f"{key}.safe").write_bytes(os.urandom(32))
    parts = [the_class(), block_with("class SafeWrapper:"), block_with("class DrawerStore:")]
    (tmp_path / "own_parts.py").write_text("\n".join(parts), encoding="utf-8")
    suites = ["from own_parts import *", block_with("class TestSafeWrapper"), block_with("class TestDrawerStore")]
    (tmp_path / "test_parts.py").write_text("\n".join(suites), encoding="utf-8")
    assert passed_by("test_parts.py", tmp_path) > 20


def passed_by(file: str, tmp_path: Path) -> int:
    """How many tests of the file pass. Fails if one does not."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        file,
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"\b(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    return int(passed[1])


def install(site: Path) -> None:
    """The package of the page, as an installer would leave it."""
    (declared,) = (block.text for block in blocks(PAGE, "toml") if "[project.entry-points.keyproviders]" in block.text)
    name = re.findall(r'^name = "(.+)"$', declared, re.MULTILINE)[0]
    entry = re.findall(
        r'^(\w+) = "(\w+:\w+)"$', declared.partition("[project.entry-points.keyproviders]")[2], re.MULTILINE
    )[0]
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": the_class(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[keyproviders]\n{entry[0]} = {entry[1]}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel = site.parent / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)


def test_the_package_of_the_page_opens_by_url(shelf: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site)
    command = [sys.executable, "-m", "encrypted_sessions.cli", "doctor", "--json", f"shelf:{shelf}"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(site), capture_output=True, text=True, timeout=120, check=False
    )
    told = json.loads(done.stdout)
    assert [check["status"] for check in told["checks"][1:]] == ["ok"] * 4, done.stdout
    assert told["place"] == f"shelf:{shelf}"
    assert told["kid"].startswith("2026-11~")


def test_the_page_names_every_error_that_a_provider_may_raise() -> None:
    import keyproviders
    from keyproviders import KeyNotAskedError, KeyProviderError

    # The parent of them, and what the ring raises without asking a provider.
    not_raised = (KeyProviderError, KeyNotAskedError)
    text = PAGE.read_text(encoding="utf-8")
    for name, found in vars(keyproviders).items():
        if isinstance(found, type) and issubclass(found, KeyProviderError) and found not in not_raised:
            assert f"| `{name}` |" in text
