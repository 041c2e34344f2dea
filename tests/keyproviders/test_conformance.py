"""Every provider of this package passes the suite that it ships, and the suite finds what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyproviders import (
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProvider,
    KeyRing,
    KeyUnavailableError,
)
from keyproviders.local import EnvKeyProvider, FileKeyProvider, StaticKeyProvider
from keyproviders.testing import FakeKeyProvider, KeyProviderConformance

A, B = Key.generate("a"), Key.generate("b")


class TestStatic(KeyProviderConformance):
    def make_provider(self) -> KeyProvider:
        return StaticKeyProvider(A, B)

    def older_name(self) -> str:
        return "b"


class TestStaticWithoutNames(KeyProviderConformance):
    def make_provider(self) -> KeyProvider:
        return StaticKeyProvider(A.reveal_base64(), B.reveal_base64())

    def older_name(self) -> str:
        return B.fingerprint


class TestEnv(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEYS_OF_CONFORMANCE", f"a={A.reveal_base64()},b={B.reveal_base64()}")

    def make_provider(self) -> KeyProvider:
        return EnvKeyProvider("KEYS_OF_CONFORMANCE")

    def older_name(self) -> str:
        return "b"


class TestFile(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "keys"
        self.path.write_text(f"a={A.reveal_base64()}\nb={B.reveal_base64()}\n")
        self.path.chmod(0o600)

    def make_provider(self) -> KeyProvider:
        return FileKeyProvider(self.path)

    def older_name(self) -> str:
        return "b"


class TestDirectory(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.path = tmp_path / "keys"
        self.path.mkdir(mode=0o700)
        for name, text in {"a": A.reveal_base64(), "b": B.reveal_base64(), "ACTIVE": "a"}.items():
            (self.path / name).write_text(text)
            (self.path / name).chmod(0o600)

    def make_provider(self) -> KeyProvider:
        return FileKeyProvider(self.path)

    def older_name(self) -> str:
        return "b"


class TestFake(KeyProviderConformance):
    def make_provider(self) -> KeyProvider:
        place = FakeKeyProvider()
        place.rotate()
        return place

    def older_name(self) -> str:
        return "1"


class Wrong(StaticKeyProvider):
    """Right in everything, before a test spoils it."""

    def __init__(self) -> None:
        super().__init__(A, B)


class NewEachTime(Wrong):
    def active(self) -> Key:
        return Key.generate("a")


class FindsAnything(Wrong):
    def get(self, name: str) -> Key:
        return A


class FindsNothing(Wrong):
    def get(self, name: str) -> Key:
        raise KeyNotFoundError("no")


class ForeignErrors(Wrong):
    def get(self, name: str) -> Key:
        return {"a": A, "b": B}[name]


class Tells(Wrong):
    def __repr__(self) -> str:
        return f"<Tells {A.reveal_base64()}>"


class GivesBytes(Wrong):
    def active(self) -> Key:
        return A.secret  # type: ignore[return-value] # what is tested


class ClosesOnce(Wrong):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


@pytest.mark.parametrize(
    ("kind", "found_by"),
    [
        (NewEachTime, "test_the_active_key_stays_the_same"),
        (FindsAnything, "test_a_missing_key_is_not_found"),
        (FindsAnything, "test_a_name_that_no_key_can_have_is_not_found"),
        (FindsAnything, "test_an_older_key_is_found_by_its_name"),
        (FindsNothing, "test_the_active_key_is_found_by_what_a_ring_asks_for"),
        (ForeignErrors, "test_a_missing_key_is_not_found"),
        (Tells, "test_no_secret_is_shown"),
        (GivesBytes, "test_the_active_key_is_a_key"),
        (ClosesOnce, "test_it_can_be_closed_twice"),
    ],
)
def test_the_suite_finds_what_is_wrong(kind: type[Wrong], found_by: str) -> None:
    class Suite(KeyProviderConformance):
        def make_provider(self) -> KeyProvider:
            return kind()

        def older_name(self) -> str:
            return "b"

    with pytest.raises((AssertionError, KeyNotFoundError, KeyError, RuntimeError)):
        getattr(Suite(), found_by)()


def test_the_suite_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="say how a provider is made"):
        KeyProviderConformance().make_provider()


def test_the_fake_does_as_it_is_told() -> None:
    place = FakeKeyProvider()
    first = place.key()
    second = place.rotate()
    assert place.active() is second
    assert place.get("1") is first
    for tell, error in (
        (place.go_down, KeyUnavailableError),
        (place.deny, KeyAccessDeniedError),
    ):
        tell()
        with pytest.raises(error):
            place.active()
        place.come_back()
        assert place.active() is second
    place.deny("1")
    with pytest.raises(KeyAccessDeniedError):
        place.get("1")
    place.come_back()
    place.disable("1")
    with pytest.raises(KeyDisabledError):
        place.get("1")
    place.enable("1")
    assert place.get("1") is first
    place.destroy("1")
    for _ in range(2):
        with pytest.raises(KeyDestroyedError):
            place.get("1")
        place.enable("1")  # what is destroyed stays so
    assert place.asked[:2] == ["active", "1"]


async def test_the_fake_serves_the_tests_of_an_application() -> None:
    place = FakeKeyProvider()
    async with KeyRing(place) as ring:
        before = await ring.active()
        place.rotate()
        assert await ring.refresh() is place.key()
        place.go_down()
        assert await ring.get(before.kid) is before
        assert await ring.active() is place.key()
