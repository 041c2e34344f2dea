"""Providers and wrappers of other packages, found by their entry points."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import encrypted_sessions
import keyproviders

MODULE = """
from keyproviders import Key, KeyNotFoundError

print("loaded", __name__)


class ToyProvider:
    def __init__(self, url, *, allow_insecure=False):
        self.place = url
        self.allow_insecure = allow_insecure
        self.key = Key("toy", bytes(n * n % 251 for n in range(32)))

    def active(self):
        return self.key

    def get(self, name):
        if name != "toy":
            raise KeyNotFoundError("the toy has one key")
        return self.key


def nonsense(url, *, allow_insecure=False):
    return url
"""


def install(folder: Path, name: str, *entry_points: str, code: str = MODULE, wrappers: tuple[str, ...] = ()) -> None:
    """A small package of its own, built and installed into that folder."""
    module = name.replace("-", "_")
    wheel = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n".join(
            ["[keyproviders]", *entry_points, "[keyproviders.wrappers]", *wrappers, ""]
        ),
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


# -- Wrappers of keysets ----------------------------------------------------------------------------

WRAPPER = """
import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from keyproviders import InvalidKeyError, ProviderConfigError
from keyproviders.keyset import WrappedKey

print("loaded", __name__)


class ToyWrapper:
    URL_OPTIONS = frozenset({"drawer"})
    URL_REFUSED = {"pin": "pass it in code"}
    URL_EXAMPLE = "toykms:desk"

    def __init__(self, desk, *, drawer="top", allow_insecure=False):
        self.place = f"toykms:{desk}"
        self.kek = f"{desk}/{drawer}"
        self.allow_insecure = allow_insecure

    @classmethod
    def from_options(cls, path, options, *, allow_insecure=False):
        return cls(path, **options, allow_insecure=allow_insecure)

    def generate(self, context):
        secret = os.urandom(32)
        return secret, self._sealed(secret, context)

    def unwrap(self, wrapped, context):
        if wrapped.kek != self.kek:
            raise ProviderConfigError(f"{self.place} has no {wrapped.kek}")
        try:
            raw = base64.b64decode(wrapped.ciphertext, validate=True)
            return self._cipher().decrypt(raw[:12], raw[12:], repr(sorted(context.items())).encode())
        except (ValueError, InvalidTag):
            problem = InvalidKeyError(f"{self.place}: damaged, or of another keyset or name")
        raise problem

    def rewrap(self, wrapped, context):
        return self._sealed(self.unwrap(wrapped, context), context)

    def _sealed(self, secret, context):
        nonce = os.urandom(12)
        sealed = self._cipher().encrypt(nonce, secret, repr(sorted(context.items())).encode())
        return WrappedKey(self.kek, base64.b64encode(nonce + sealed).decode())

    def _cipher(self):
        return AESGCM(self.kek.encode().ljust(32)[:32])


nonsense = print
"""


def files_of_the_packages() -> dict[str, tuple[int, int]]:
    """Every file of both packages as they are imported here, with its size and its time."""
    found = {}
    for package in (keyproviders, encrypted_sessions):
        for path in Path(package.__file__).parent.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                status = path.stat()
                found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def toy_wrappers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with packages that offer wrappers of keysets."""
    folder = tmp_path_factory.mktemp("third-party-wrappers")
    before = files_of_the_packages()
    offered = ("toykms = toy_kms:ToyWrapper", "twice = toy_kms:ToyWrapper", "bad = toy_kms:nonsense")
    install(folder, "toy-kms", code=WRAPPER, wrappers=offered)
    install(
        folder, "other-kms", "twice = other_kms:ToyWrapper", code=WRAPPER, wrappers=("aws-kms = other_kms:ToyWrapper",)
    )
    assert files_of_the_packages() == before, "a wrapper of another package touches files outside its folder"
    return folder


def test_a_wrapper_of_another_package_keeps_a_keyset_and_passes_the_suite(toy_wrappers: Path, tmp_path: Path) -> None:
    before = files_of_the_packages()
    url = f"toykms:desk?drawer=low&keyset=file:{tmp_path}/keyset.json"
    program = f"""
from keyproviders import KeyRing, open_keyset, open_provider
from keyproviders.testing import KeyWrapperConformance

with_manager = open_keyset({url!r}, allow_insecure=True)
print(with_manager._wrapper.allow_insecure, with_manager.create(key_name="first").kek)
with_manager.rotate(key_name="second", now=True)
with_manager.rewrap()
print(open_provider({url!r}).active().name)
ring = KeyRing.from_url({url.replace("toykms", "TOYKMS")!r})
print(ring.active_sync().name)
ring.close()

from toy_kms import ToyWrapper

class Suite(KeyWrapperConformance):
    def make_wrapper(self):
        return ToyWrapper("desk")

names = [name for name in dir(Suite) if name.startswith("test_")]
for name in names:
    getattr(Suite(), name)()
print(len(names) > 10)
"""
    lines = run(toy_wrappers, program).splitlines()
    assert lines == ["loaded toy_kms", "True desk/low", "second", "second", "True"]
    assert files_of_the_packages() == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("toykms:desk", "the toykms: URL does not say where its keyset is"),
        (
            "toykms:desk?keyset=file:k.json&nothing=1",
            "has no option 'nothing'; its options are drawer, dsn_env, keyset",
        ),
        ("toykms:desk?keyset=file:k.json&pin=1", "pin does not belong in a toykms: URL; pass it in code"),
        ("toykms://desk?keyset=file:k.json", "write it as toykms:desk?keyset=file:/etc/agents/keyset.json"),
        ("twice:x?keyset=file:k.json", "several packages read URLs that begin with twice: : other-kms (other_kms:Toy"),
        (
            "bad:x?keyset=file:k.json",
            "toy_kms:nonsense, which wraps keys for URLs that begin with bad: , has no URL",
        ),
    ],
)
def test_a_url_of_such_a_wrapper_is_read_as_strictly_as_any(toy_wrappers: Path, url: str, words: str) -> None:
    for opener in ("open_provider", "open_keyset"):
        assert words in run(toy_wrappers, refusal(url).replace("open_provider", opener))


def test_a_built_in_wrapper_cannot_be_taken_over(toy_wrappers: Path) -> None:
    program = """
from keyproviders import open_keyset
print(open_keyset("aws-kms:alias/a?keyset=file:k.json&region=eu-central-1"))
"""
    out = run(toy_wrappers, program)
    assert out == "<KeysetManager aws-kms:alias/a with the keyset 'default' in file:k.json>\n"
