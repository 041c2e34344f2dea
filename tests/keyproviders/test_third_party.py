"""Providers of other packages, found by their entry points."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

MODULE = """
from keyproviders import Key, KeyNotFoundError

print("loaded", __name__)


class ToyProvider:
    def __init__(self, url, *, allow_insecure=False):
        self.place = url
        self.allow_insecure = allow_insecure
        self.key = Key("toy", bytes(range(32)))

    def active(self):
        return self.key

    def get(self, name):
        if name != "toy":
            raise KeyNotFoundError("the toy has one key")
        return self.key


def nonsense(url, *, allow_insecure=False):
    return url
"""


def install(folder: Path, name: str, *entry_points: str) -> None:
    """A small package of its own, built and installed into that folder."""
    module = name.replace("-", "_")
    wheel = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": MODULE,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[keyproviders]\n" + "".join(f"{line}\n" for line in entry_points),
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, content)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(wheel)], check=True)


def run(folder: Path, program: str) -> str:
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "KEYS": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(url: str) -> str:
    return f"""
from keyproviders import ProviderConfigError, open_provider
try:
    open_provider({url!r})
except ProviderConfigError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with two packages that offer providers."""
    folder = tmp_path_factory.mktemp("third-party")
    install(folder, "toy-keys", "toy = toy_keys:ToyProvider", "twice = toy_keys:ToyProvider", "bad = toy_keys:nonsense")
    install(folder, "other-keys", "twice = other_keys:ToyProvider", "env = other_keys:ToyProvider")
    return folder


def test_a_provider_of_another_package_opens_by_url_and_only_it_is_loaded(toys: Path) -> None:
    out = run(
        toys,
        """
from keyproviders import KeyRing, open_provider
provider = open_provider("TOY://somewhere", allow_insecure=True)
print(type(provider).__name__, provider.place, provider.allow_insecure)
with_ring = KeyRing.from_url("toy:x")
print(with_ring.active_sync().name)
with_ring.close()
""",
    )
    assert out.splitlines() == ["loaded toy_keys", "ToyProvider TOY://somewhere True", "toy"]


def test_a_built_in_scheme_cannot_be_taken_over(toys: Path) -> None:
    out = run(toys, "from keyproviders import open_provider; print(type(open_provider('env:KEYS')).__name__)")
    assert out == "EnvKeyProvider\n"


def test_a_scheme_that_two_packages_offer_raises_and_names_them(toys: Path) -> None:
    out = run(toys, refusal("twice:x"))
    assert "several packages read URLs that begin with twice: : other-keys (other_keys:ToyProvider), toy-keys" in out
    assert "loaded" not in out


def test_what_is_no_provider_is_refused(toys: Path) -> None:
    assert "gave a str, not a provider" in run(toys, refusal("bad:x"))


def test_importing_looks_for_no_packages(toys: Path) -> None:
    run(toys, "import sys, keyproviders; assert 'importlib.metadata' not in sys.modules")
