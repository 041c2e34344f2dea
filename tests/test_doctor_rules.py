"""What `encrypted-sessions doctor` is told of your rings and rules, and what it says by the kind of place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from agents import SQLiteSession, run_config
from typer.testing import CliRunner, Result

from encrypted_sessions.cli import application
from encrypted_sessions.doctor import examination
from encrypted_sessions.doctor.advice import advice_for, kind_of
from encrypted_sessions.doctor.diagnosis import Diagnosis
from encrypted_sessions.doctor.installed import Installation
from encrypted_sessions.doctor.tracing import with_tracing
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from keyproviders import (
    CachePolicy,
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
)
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetManager
from keyproviders.local import EnvKeyProvider, FileKeyProvider
from keyproviders.testing import FakeKeyProvider

#: As the SDK reads them.
DISABLED, SENSITIVE = "OPENAI_AGENTS_DISABLE_TRACING", "OPENAI_AGENTS_TRACE_INCLUDE_SENSITIVE_DATA"


@pytest.fixture(autouse=True)
def _as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENCRYPTED_SESSIONS_KEYS", raising=False)
    monkeypatch.setattr(examination, "whose_package", lambda: Installation("/here", ("ours 1",)))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKeyProvider:
    """What any URL opens: a place whose key was made 100 days ago."""
    provider = FakeKeyProvider()
    made = datetime.now(timezone.utc) - timedelta(days=100)
    provider._keys["1"] = Key("1", bytes(n * n % 251 for n in range(32)), made)
    monkeypatch.setattr(examination, "open_provider", lambda url: provider)
    return provider


@pytest.fixture
def keyset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes a keyset with that activation delay, which any URL opens from then on."""

    def make(delay_s: int) -> None:
        wrapper, store = FakeKeyWrapper(), FileKeysetStore(tmp_path / "keyset.json")
        KeysetManager(wrapper, store).create(activation_delay_s=delay_s)
        monkeypatch.setattr(examination, "open_provider", lambda url: KeysetKeyProvider(wrapper, store))

    return make


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(application(), ["doctor", *arguments], prog_name="encrypted-sessions")


def checks_of(result: Result) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


# -- A keyset that counts on quicker rings -----------------------------------------------------------


@pytest.mark.parametrize(
    ("delay_s", "told", "is_well"),
    [
        (1_260, (), True),
        (1_260, ("--stale-write", "20m"), False),
        (600, (), False),
        (600, ("--fresh", "60", "--stale-write", "8m"), True),
    ],
)
def test_an_activation_delay_is_held_against_the_times_of_the_rings(
    keyset: Callable[[int], None], delay_s: int, told: tuple[str, ...], is_well: bool
) -> None:
    keyset(delay_s)
    result = doctor("some:where", *told, "--json")
    assert (result.exit_code == 0) == is_well, result.output
    fetch = checks_of(result)["fetch"]
    assert (fetch["status"] == "ok") == is_well
    if not is_well:
        assert f"the keyset allows {delay_s} s (its activation delay)" in fetch["found"]
        assert "give them as --fresh and --stale-write" in fetch["advice"]


def test_the_times_of_the_rings_are_those_of_the_report(fake: FakeKeyProvider) -> None:
    said = doctor("some:where", "--fresh", "1m", "--stale-write", "2d", "--stale-read", "3d").stdout
    assert "writes for 2,880 minutes (48 h) after the last answer" in said
    assert "reads for 4,320 minutes (72 h) after the last answer" in said


def test_times_that_no_ring_can_have_are_wrong_use(fake: FakeKeyProvider) -> None:
    result = doctor("some:where", "--fresh", "20m")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "fresh_s" in result.stderr


# -- The age of the key that seals -------------------------------------------------------------------


@pytest.mark.parametrize(("most", "status", "words"), [("90d", "failed", "older than 90 days"), ("101d", "ok", "not")])
def test_a_key_older_than_allowed_is_not_well(fake: FakeKeyProvider, most: str, status: str, words: str) -> None:
    result = doctor("some:where", "--max-key-age", most, "--json")
    age = checks_of(result)["age"]
    assert (result.exit_code, age["status"]) == (int(status == "failed"), status)
    assert words in age["found"]
    assert (age["advice"] is None) == (status == "ok")


def test_without_a_limit_age_is_no_check(fake: FakeKeyProvider) -> None:
    result = doctor("some:where", "--json")
    assert result.exit_code == 0
    assert "age" not in checks_of(result)


def test_a_key_of_unknown_age_is_not_well_either_by_the_installed_command() -> None:
    environment = {**os.environ, "SOME_KEYS": Key.generate("2026-11").reveal_base64()}
    done = warm_programs.run_command("doctor", "env:SOME_KEYS", "--max-key-age", "90d", env=environment)
    assert done.returncode == 1
    assert "it is not known whether" in done.stdout
    assert "age." in done.stdout.splitlines()[-1]


def test_only_the_place_that_seals_is_asked_for_the_age_of_its_key(
    fake: FakeKeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = FakeKeyProvider()
    young._keys["1"] = Key("1", bytes(n * n % 241 for n in range(32)), datetime.now(timezone.utc))
    monkeypatch.setattr(examination, "open_provider", {"new:": young, "old:": fake}.__getitem__)
    assert doctor("new:", "old:", "--max-key-age", "90d").exit_code == 0
    assert doctor("old:", "new:", "--max-key-age", "90d").exit_code == 1


def test_without_a_key_its_age_is_not_tried() -> None:
    result = doctor("--max-key-age", "90d", "--json")
    assert result.exit_code != 0
    assert checks_of(result)["age"]["status"] == "not tried"


def test_a_store_is_looked_at_also_where_the_key_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_KEYS", Key.generate().reveal_base64())
    path = tmp_path / "agents.db"
    SQLiteSession("a", path).close()
    result = doctor("env:SOME_KEYS", "--store", f"sqlite:///{path}", "--max-key-age", "90d", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["store"]["ok"]) == (1, False, True)


# -- What is said once -------------------------------------------------------------------------------


def test_of_several_places_what_holds_for_all_is_said_once(
    fake: FakeKeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DISABLED)
    said = doctor("one:", "two:").stdout
    for once in ("In an outage", "encrypted-sessions ", "the Agents SDK records what is said in runs"):
        assert said.count(once) == 1
    assert said.count("ok      fetch") == said.count("All is well.") == 2


# -- Traces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "1", "true", " YES ", "on", "0", "false", "no", "", "2"])
def test_traces_with_what_was_said_are_warned_of_where_the_sdk_would_send_it(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Diagnosis((), None, None, None, None, (), ("another",), CachePolicy(), RetryPolicy())
    monkeypatch.delenv(SENSITIVE, raising=False)
    if value is not None:
        monkeypatch.setenv(SENSITIVE, value)
    assert with_tracing(found) == found, "tests send no traces"
    monkeypatch.setenv(DISABLED, "no")
    warned = with_tracing(found).warnings[1:]
    assert bool(warned) is run_config._default_trace_include_sensitive_data()
    assert all(f"set {SENSITIVE}=0" in one for one in warned)


# -- What to do, by the kind of place ----------------------------------------------------------------


def test_advice_is_for_the_kind_of_place(keyset: Callable[[int], None], tmp_path: Path) -> None:
    keyset(1_260)
    places = {
        "keyset": examination.open_provider("some:where"),
        "env": EnvKeyProvider("SOME_KEYS"),
        "file": FileKeyProvider(str(tmp_path / "keys")),
        "other": FakeKeyProvider(),
    }
    assert {name: kind_of(provider) for name, provider in places.items()} == dict(zip(places, places, strict=True))
    expected: list[tuple[type[KeyProviderError], str, str]] = [
        (InvalidKeyError, "keyset", "put back its last good copy"),
        (ProviderConfigError, "keyset", "put back its last copy"),
        (InvalidKeyError, "env", "put a key into the variable"),
        (InvalidKeyError, "file", "write a key there"),
        (KeyAccessDeniedError, "keyset", "to unwrap with the key of KMS or Transit"),
        (KeyAccessDeniedError, "file", "chmod 600"),
        (KeyAccessDeniedError, "other", "look at the user, role or policy"),
        (KeyDisabledError, "keyset", "keys restore"),
        (KeyNotFoundError, "keyset", "check the name of the key of KMS or Transit"),
        (KeyUnavailableError, "keyset", "check that the keyset and KMS or Vault can be reached"),
    ]
    for error, name, words in expected:
        advice = advice_for(error("it is so"), kind_of(places[name]))
        assert words in advice, (error, name)
        assert name != "keyset" or "keygen" not in advice
