"""`encrypted-sessions doctor`: what it finds where all is well, and what it says where it is not."""

from __future__ import annotations

import base64
import doctest
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from encrypted_sessions.cli import application
from encrypted_sessions.doctor import examination as doctor
from encrypted_sessions.doctor import installed
from encrypted_sessions.doctor import report as doctor_report
from encrypted_sessions.doctor.diagnosis import Diagnosis
from encrypted_sessions.doctor.examination import examine
from encrypted_sessions.doctor.installed import Installation, whose_package
from encrypted_sessions_tests.documents import ROOT
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from keyproviders import (
    CachePolicy,
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
)
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider
from keyproviders.testing import FakeKeyProvider

IN_A_HURRY = RetryPolicy(attempts=2, deadline_s=2.0, wait_min_s=0.0, wait_max_s=0.01)
STEPS = ["packages", "open", "fetch", "look up", "seal and read"]


@pytest.fixture(autouse=True)
def _as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No default URL, and the package as it should be, however the suite is run."""
    monkeypatch.setenv("COLUMNS", "1000")  # a finding is one line
    monkeypatch.delenv("ENCRYPTED_SESSIONS_KEYS", raising=False)
    monkeypatch.setattr(doctor, "whose_package", lambda: Installation("/here/keyproviders/__init__.py", ("ours 1",)))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(application(), ["doctor", *arguments], prog_name="encrypted-sessions")


def status_of(found: Diagnosis) -> dict[str, str]:
    return {check.name: check.status for check in found.checks}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKeyProvider:
    """What any URL opens."""
    provider = FakeKeyProvider()
    monkeypatch.setattr(doctor, "open_provider", lambda url: provider)
    return provider


async def test_a_good_key_passes_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key.generate("2026-11")
    monkeypatch.setenv("SOME_KEYS", f"2026-11={key.reveal_base64()}")
    found = await examine("env:SOME_KEYS")
    assert found.ok
    assert status_of(found) == dict.fromkeys(STEPS, "ok")
    assert (found.place, found.kid, found.key_created_at, found.key_age_s) == ("env:SOME_KEYS", key.kid, None, None)
    assert all(check.took_s is not None and check.advice is None for check in found.checks)


def test_the_command_says_so_and_ends_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEYS", Key.generate().reveal_base64())
    result = invoke("env:SOME_KEYS")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "All is well." in result.stdout
    assert "The key's age: not known, since its place does not say." in result.stdout
    assert "writes for 15 minutes after the last answer" in result.stdout
    assert "reads for 1,440 minutes (24 h) after the last answer" in result.stdout
    assert "goes on for 5 minutes when access is denied" in result.stdout
    assert "fails within 8 s" in result.stdout


def test_the_variable_stands_in_for_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEYS", Key.generate().reveal_base64())
    monkeypatch.setenv("ENCRYPTED_SESSIONS_KEYS", "env:SOME_KEYS")
    assert invoke().exit_code == 0


def test_without_a_url_it_says_how_to_give_one() -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "no URL was given" in result.stdout
    assert "set ENCRYPTED_SESSIONS_KEYS" in result.stdout


def test_json_has_the_same_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEYS", Key.generate("a").reveal_base64())
    result = invoke("--json", "env:SOME_KEYS")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["place"]) == (0, True, "env:SOME_KEYS")
    assert [check["name"] for check in told["checks"]] == STEPS
    assert told["in_an_outage"] == {
        "writes_for_minutes": 15.0,
        "reads_for_minutes": 1440.0,
        "goes_on_when_denied_for_minutes": 5.0,
        "without_a_key_fails_within_s": 8.0,
    }


def test_json_of_a_failure_is_json_and_ends_with_2() -> None:
    result = invoke("--json", "env:NOT_SET_ANYWHERE")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["kid"]) == (2, False, None)
    assert [check["status"] for check in told["checks"]] == ["ok", "ok", "failed", "not tried", "not tried"]


FAILURES: list[tuple[type[KeyProviderError], str]] = [
    (KeyUnavailableError, "check that the place runs"),
    (KeyAccessDeniedError, "allow this process to read the key"),
    (KeyNotFoundError, "put a key there and make it the active one"),
    (KeyDisabledError, "enable the key at its place"),
    (KeyDestroyedError, "make another key active"),
    (InvalidKeyError, "write a key there"),
    (ProviderConfigError, "change the setting that the message names"),
]


class Failing:
    """A provider that raises one thing."""

    place = "the failing place"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def active(self) -> Key:
        raise self.error

    def get(self, name: str) -> Key:
        raise self.error


@pytest.mark.parametrize(("kind", "advice"), FAILURES, ids=[kind.__name__ for kind, _ in FAILURES])
async def test_each_failure_has_its_advice(
    kind: type[KeyProviderError], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "open_provider", lambda url: Failing(kind("it is so")))
    found = await examine("some:where", retry=IN_A_HURRY)
    (failed,) = (check for check in found.checks if check.status == "failed")
    assert (failed.name, failed.error) == ("fetch", kind.__name__)
    assert failed.found.startswith("it is so")
    assert advice in str(failed.advice)
    assert status_of(found)["seal and read"] == "not tried"
    assert advice in doctor_report.format_text(found)
    assert "Not well: fetch." in doctor_report.format_text(found)


async def test_a_keyset_that_is_no_good_is_not_to_be_written_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keyset.json"
    path.write_text("{}")
    path.chmod(0o600)
    provider = KeysetKeyProvider(FakeKeyWrapper(), FileKeysetStore(path))
    monkeypatch.setattr(doctor, "open_provider", lambda url: provider)
    found = await examine("some:where", retry=IN_A_HURRY)
    (failed,) = (check for check in found.checks if check.status == "failed")
    assert (failed.name, failed.error) == ("fetch", "InvalidKeyError")
    assert "put back its last good copy" in str(failed.advice)
    assert "keygen" not in str(failed.advice)


async def test_it_says_how_often_a_place_was_asked_that_did_not_answer(fake: FakeKeyProvider) -> None:
    fake.go_down()
    found = await examine("fake:", retry=IN_A_HURRY)
    assert "(asked 2 times)" in found.checks[2].found


async def test_what_a_provider_should_not_raise_is_named_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "open_provider", lambda url: Failing(LookupError("a token, for instance")))
    found = await examine("some:where", retry=IN_A_HURRY)
    assert found.checks[2].error == "LookupError"
    assert "a token" not in doctor_report.format_text(found) + doctor_report.format_json(found)
    assert "report it to the provider's author" in doctor_report.format_text(found)


async def test_a_provider_that_hangs_is_a_finding(fake: FakeKeyProvider) -> None:
    fake.slow_down(1)
    found = await examine("fake:", retry=RetryPolicy(attempts=1, deadline_s=0.05))
    assert (found.checks[2].status, found.checks[2].error) == ("failed", "KeyUnavailableError")
    assert "did not answer within 0.05 s" in found.checks[2].found


async def test_a_provider_that_cannot_even_be_opened_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(url: str) -> Any:
        raise ImportError("no module of that name")

    monkeypatch.setattr(doctor, "open_provider", broken)
    found = await examine("some:where")
    assert (found.checks[1].status, found.checks[1].error, found.place) == ("failed", "ImportError", None)


async def test_a_key_that_another_process_would_not_find_fails_the_look_up(fake: FakeKeyProvider) -> None:
    class OnlyActive(FakeKeyProvider):
        def get(self, name: str) -> Key:
            raise KeyNotFoundError("only the active key can be had")

    fake.__class__ = OnlyActive
    found = await examine("fake:", retry=IN_A_HURRY)
    assert status_of(found) == {
        "packages": "ok",
        "open": "ok",
        "fetch": "ok",
        "look up": "failed",
        "seal and read": "not tried",
    }


async def test_the_age_of_a_key_is_told_where_the_place_knows_it(fake: FakeKeyProvider) -> None:
    made = datetime.now(timezone.utc) - timedelta(days=40, minutes=1)
    fake._keys["1"] = Key("1", bytes(n * n % 251 for n in range(32)), made)
    found = await examine("fake:")
    assert (found.key_created_at, found.ok) == (made, True)
    assert "The key's age: 40 days (made " in doctor_report.format_text(found)


def test_the_page_shows_what_is_printed() -> None:
    page = (ROOT / "docs" / "when-the-key-server-is-down.md").read_text(encoding="utf-8")
    shown = page.partition("```console\n")[2].partition("   ```")[0]
    printed = invoke("file:/nowhere/session-keys").stdout
    assert doctest.OutputChecker().check_output(textwrap.dedent(shown), printed, doctest.ELLIPSIS), printed


async def test_the_numbers_are_those_of_the_ring_that_is_asked_about(fake: FakeKeyProvider) -> None:
    policy = CachePolicy(fresh_s=60, stale_write_s=90, stale_read_s=600)
    found = await examine("fake:", cache=policy)
    words = doctor_report.format_text(found)
    assert "writes for 1.5 minutes after" in words
    assert "reads for 10 minutes after" in words
    assert "(the defaults)" not in words


@pytest.mark.skipif(os.name != "posix", reason="the mode of a file does not tell on Windows")
async def test_what_the_provider_warns_of_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(Key.generate().reveal_base64(), encoding="ascii")
    path.chmod(0o666)
    found = await examine(f"file:{path}")
    assert found.ok
    (warning,) = found.warnings
    assert "others than the owner may write" in warning
    assert "chmod go-rwx" in warning
    assert warning in doctor_report.format_text(found)


class Telling(FakeKeyProvider):
    """A place that has something to say."""

    def examine(self) -> Any:
        warnings.warn("the shelf is nearly full", stacklevel=2)
        return ["It keeps 10 keys.", "They are old."]


def examining(monkeypatch: pytest.MonkeyPatch, examine: Callable[[], Any]) -> None:
    provider = FakeKeyProvider()
    provider.examine = examine  # type: ignore[attr-defined]  # any provider may have it
    monkeypatch.setattr(doctor, "open_provider", lambda url: provider)


async def test_what_a_provider_says_of_its_place_is_told_and_changes_no_verdict(fake: FakeKeyProvider) -> None:
    fake.__class__ = Telling
    found = await examine("fake:")
    assert found.ok
    assert found.remarks == ("It keeps 10 keys.", "They are old.")
    assert found.warnings == ("the shelf is nearly full",)
    lines = doctor_report.format_text(found).splitlines()
    assert "note    It keeps 10 keys." in lines
    assert "warning the shelf is nearly full" in lines
    told = json.loads(doctor_report.format_json(found))
    assert (told["ok"], told["remarks"]) == (True, list(found.remarks))


async def test_a_place_that_was_never_reached_is_asked_nothing_more(fake: FakeKeyProvider) -> None:
    fake.__class__ = Telling
    fake.go_down()
    assert (await examine("fake:", retry=IN_A_HURRY)).remarks == ()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyUnavailableError("it went away"), "KeyUnavailableError: it went away"),
        (KeyAccessDeniedError("not allowed"), "KeyAccessDeniedError: not allowed"),
        (LookupError("a token, for instance"), "LookupError was raised"),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_place_that_fails_to_speak_of_itself_is_no_failure(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise error

    examining(monkeypatch, fails)
    found = await examine("fake:")
    assert found.ok
    assert found.remarks == (f"the place says nothing of itself: {words}",)


async def test_a_place_that_hangs_when_it_is_asked_about_itself_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    examining(monkeypatch, lambda: go_on.wait(30))
    try:
        found = await examine("fake:", retry=RetryPolicy(attempts=1, deadline_s=0.1))
    finally:
        go_on.set()
    assert found.ok
    assert found.remarks == ("the place says nothing of itself: no answer within 0.1 s",)


@pytest.mark.parametrize("answer", [None, 7, "a text", {"a": 1}, [1, None, b"x"], ()])
async def test_what_is_no_list_of_sentences_is_left_out(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    examining(monkeypatch, lambda: answer)
    found = await examine("fake:")
    assert (found.ok, found.remarks) == (True, ())


async def test_a_key_of_this_minute_is_said_to_be_so(fake: FakeKeyProvider) -> None:
    fake._keys["1"] = Key("1", bytes(n * n % 251 for n in range(32)), datetime.now(timezone.utc))
    assert "The key's age: less than a minute (made " in doctor_report.format_text(await examine("fake:"))


def test_neither_the_key_nor_the_url_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key.generate().reveal_base64()
    monkeypatch.setenv("SOME_KEYS", key)
    for url in ("env:SOME_KEYS", key, f"env:{key}", f"file:{key}", f"vault-kv://{key}@host/x", f"other:{key}"):
        for arguments in ([url], ["--json", url]):
            result = invoke(*arguments)
            assert key.rstrip("=") not in result.output + result.stderr


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_KEYS", Key.generate().reveal_base64())
    assert invoke("env:SOME_KEYS").exit_code == 0
    assert list(tmp_path.iterdir()) == []


# -- Whose package it is -------------------------------------------------------------------------


def distribution(site: Path, name: str, files: dict[str, str]) -> None:
    """Install files as pip would: with a list of them."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    lines = []
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content, encoding="utf-8")
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/RECORD,,", ""]), encoding="utf-8")


OURS = {"keyproviders/__init__.py": "# ours\n", "keyproviders/local.py": "# ours too\n"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    distribution(folder, "encrypted-sessions", OURS)
    return folder


def test_the_package_as_it_was_installed_is_in_order(site: Path) -> None:
    found = whose_package([str(site)])
    assert found == Installation(str((site / "keyproviders/__init__.py").resolve()), ("encrypted-sessions 1.0",))


def test_another_distribution_with_the_same_package_is_named(site: Path) -> None:
    distribution(site, "other-keys", {"keyproviders/__init__.py": "# theirs\n"})
    found = whose_package([str(site)])
    assert found.owners == ("encrypted-sessions 1.0", "other-keys 1.0")
    assert "other-keys 1.0 also installed a package keyproviders" in str(found.problem)
    assert str(found.advice).startswith("pip uninstall other-keys, then pip install --force-reinstall")


def test_another_distribution_with_a_module_of_that_name_is_named(site: Path) -> None:
    distribution(site, "other-keys", {"keyproviders.py": "# theirs\n"})
    assert "other-keys 1.0 also installed" in str(whose_package([str(site)]).problem)


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("# other\n"), Path.unlink], ids=["changed", "removed"])
def test_a_file_that_is_not_as_it_was_installed_is_named(site: Path, spoil: Callable[[Path], object]) -> None:
    spoil(site / "keyproviders" / "local.py")
    found = whose_package([str(site)])
    assert str(found.problem) == "keyproviders/local.py: changed since encrypted-sessions 1.0 was installed"
    assert "--force-reinstall" in str(found.advice)


def test_a_folder_that_comes_first_on_the_path_is_named(site: Path, tmp_path: Path) -> None:
    mine = tmp_path / "project" / "keyproviders"
    mine.mkdir(parents=True)
    (mine / "__init__.py").write_text("", encoding="utf-8")
    found = whose_package([str(mine.parent), str(site)])
    assert f"loaded from {mine / '__init__.py'}, and not from {site}" in str(found.problem)
    assert "rename or remove" in str(found.advice)


def test_a_tree_that_was_installed_to_be_edited_is_in_order_and_another_is_not(tmp_path: Path) -> None:
    site, tree, other = tmp_path / "site", tmp_path / "a tree", tmp_path / "other"
    distribution(site, "Encrypted_Sessions", {"some.pth": "x\n"})
    told = {"url": tree.as_uri(), "dir_info": {"editable": True}}
    (site / "Encrypted_Sessions-1.0.dist-info" / "direct_url.json").write_text(json.dumps(told), encoding="utf-8")
    for folder in (tree, other):
        (folder / "keyproviders").mkdir(parents=True)
        (folder / "keyproviders" / "__init__.py").write_text("", encoding="utf-8")
    assert whose_package([str(site), str(tree)]).problem is None
    assert f"and not from {tree}" in str(whose_package([str(site), str(other)]).problem)


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert whose_package([str(tmp_path)]).problem == "there is no package keyproviders to import"


def test_this_very_installation_is_in_order() -> None:
    found = installed.whose_package()
    assert found.problem is None
    assert found.loaded_from == str(Path(sys.modules["keyproviders"].__file__ or "").resolve())


async def test_a_package_that_is_not_ours_is_a_failed_check(
    fake: FakeKeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "whose_package", lambda: Installation(None, (), "it is another's", "remove it"))
    found = await examine("fake:")
    assert not found.ok
    assert status_of(found) == {**dict.fromkeys(STEPS, "ok"), "packages": "failed"}
    assert "To do: remove it" in doctor_report.format_text(found)


def test_an_import_over_somebody_elses_keyproviders_says_so_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "keyproviders").mkdir()
    (tmp_path / "keyproviders" / "__init__.py").write_text("# somebody else's\n")
    run = subprocess.run(
        [sys.executable, "-c", "import encrypted_sessions"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("ImportError: ")
    assert "To do: " in run.stderr.splitlines()[-1]
