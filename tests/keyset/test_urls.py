"""From the URL of a keyset to its parts, and what is refused before anything is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from keyproviders import Key, KeyRing, ProviderConfigError, open_keyset, open_provider
from keyproviders.aws import AwsKmsKeyWrapper
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider, KeysetManager, SqlKeysetStore, urls
from keyproviders.vault import VaultTransitKeyWrapper

DSN = "postgresql://agents:{}@db.internal/agents?sslmode=verify-full"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """`aws-kms:` leads to the fake wrapper."""
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)


# -- What is read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", [open_provider, open_keyset, KeysetKeyProvider.from_url])
@pytest.mark.parametrize("scheme", ["aws-kms", "AWS-KMS", " aws-kms"])
@pytest.mark.usefixtures("fake")
def test_a_url_names_what_wraps_the_keys_and_where_they_lie(opener: Callable[[str], Any], scheme: str) -> None:
    opened = opener(f"{scheme}:alias/agents?keyset=file:/etc/agents/keyset.json")
    assert isinstance(opened, (KeysetKeyProvider, KeysetManager))
    assert opened.place == "fake:alias/agents with the keyset 'default' in file:/etc/agents/keyset.json"


@pytest.mark.usefixtures("fake")
def test_the_options_go_to_the_part_that_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def record(path: str, options: dict[str, str], *, allow_insecure: bool) -> FakeKeyWrapper:
        given.update(path=path, options=options, allow_insecure=allow_insecure)
        return FakeKeyWrapper(path)

    monkeypatch.setattr(FakeKeyWrapper, "from_options", record)
    url = "aws-kms:alias/a%20b?keyset=file:/etc/k%26.json&region=eu-central-1&also_kek=x,y&keyset_name=tenant-7"
    url += f"&keyset_id={'0a' * 16}"
    wrapper, store, name, keyset_id = urls.open_keyset_url(url, allow_insecure=True)
    assert given == {
        "path": "alias/a b",
        "options": {"region": "eu-central-1", "also_kek": "x,y"},
        "allow_insecure": True,
    }
    assert (wrapper.place, store.place, name) == ("fake:alias/a b", "file:/etc/k&.json", "tenant-7")
    assert keyset_id == "0a" * 16


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("file:/etc/keyset.json", "/etc/keyset.json"),
        ("file:///etc/keyset.json", "/etc/keyset.json"),
        ("file://localhost/etc/keyset.json", "/etc/keyset.json"),
        ("file:keyset.json", "keyset.json"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_a_file_is_written_as_everywhere(written: str, path: str) -> None:
    _, store, *_ = urls.open_keyset_url(f"aws-kms:alias/agents?keyset={written}")
    assert isinstance(store, FileKeysetStore)
    assert store.place == f"file:{path}"


@pytest.mark.usefixtures("fake")
def test_the_dsn_comes_from_the_variable_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYSETS_DSN", f"sqlite:///{tmp_path / 'keysets.db'}")
    url = "aws-kms:alias/agents?keyset=sql&dsn_env=KEYSETS_DSN&keyset_name=tenant-7"
    with closing(open_keyset(url)) as manager:
        manager.create(key_name="first")
    with closing(KeyRing.from_url(url)) as ring:
        assert ring.active_sync().name == "first"


def test_the_real_schemes_lead_to_the_real_wrappers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:8200")
    wrapper, *_ = urls.open_keyset_url("aws-kms:alias/agents?keyset=file:k.json&region=eu-central-1")
    assert isinstance(wrapper, AwsKmsKeyWrapper)
    wrapper, *_ = urls.open_keyset_url("vault-transit:agents?mount=team-a/transit&keyset=file:k.json")
    assert isinstance(wrapper, VaultTransitKeyWrapper)


# -- What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "(0 characters given) must begin with one of aws-kms:, vault-transit:"),
        ("keyset.json", "(11 characters given) must begin with one of"),
        ("env:SESSION_KEYS", "must begin with one of aws-kms:, vault-transit:"),
        ("aws-kms", "must begin with one of aws-kms:, vault-transit:"),
        ("aws-kms:alias/a", "does not say where its keyset is; add keyset=file:/etc/agents/keyset.json, or keyset=sql"),
        ("aws-kms:alias/a?keyset=", "keyset has no value"),
        ("aws-kms:alias/a?keyset=file:k&keyset_id=0A0A", "keyset_id (4 characters) is not the id of a keyset"),
        ("aws-kms:alias/a?keyset=redis", "is neither in a file nor in an SQL database"),
        ("aws-kms:alias/a?keyset=file:", "is empty, ends with a slash or contains a NUL"),
        ("aws-kms:alias/a?keyset=file://host/k.json", "cannot name another machine"),
        ("aws-kms:alias/a?keyset=file:k&keyset=file:k", "has keyset twice"),
        ("aws-kms:alias/a?keyset=file:k&dsn_env=X", "dsn_env has no effect for a keyset in a file"),
        ("aws-kms:alias/a?keyset=file:k&keyset_name=a/b", "name must be 1 to 119 characters"),
        ("aws-kms:alias/a?keyset=file:k&nothing=1", "has no option 'nothing'"),
        ("aws-kms:alias/a?keyset=file:k&token=t", "token does not belong in a aws-kms: URL"),
        (
            "aws-kms:alias/a?keyset=sql",
            "does not say where to find the DSN of its database; put the DSN into an environment variable",
        ),
        ("aws-kms:alias/a?keyset=sql&dsn_env=NOT_SET", "variable NOT_SET is not set or is empty"),
        ("aws-kms://alias/a?keyset=file:k", "must not have '//' or a host"),
        ("aws-kms:alias/a?keyset=file:k#x", "must not have a part after '#'"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_a_url_that_cannot_be_meant_says_what_to_write(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(ProviderConfigError) as caught:
        open_keyset(url)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "option",
    ["dsn={dsn}", "keyset={dsn}", "keyset=sql:{dsn}", "keyset=sql&dsn_env={dsn}", "keyset=file:k&dsn_env={dsn}"],
)
@pytest.mark.usefixtures("fake")
def test_a_dsn_in_a_url_is_refused_and_its_password_is_shown_nowhere(option: str) -> None:
    password = "".join(("open", "-", "sesame"))
    url = f"aws-kms:alias/a?{option.format(dsn=DSN.format(password))}"
    try:
        open_keyset(url)
    except ProviderConfigError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    else:
        pytest.fail("nothing was refused")
    for step in shown.split("\n  File "):
        assert "test_urls.py" in step or password not in step


@pytest.mark.parametrize(
    "url",
    ["{key}", "aws-kms:{key}", "aws-kms:alias/a?keyset={key}", "aws-kms:alias/a?keyset=file:{key}",
     "aws-kms:alias/a?keyset=sql&dsn_env={key}", "aws-kms:alias/a?keyset=file:k&keyset_name={key}"],
)  # fmt: skip
def test_a_key_anywhere_in_a_url_is_shown_nowhere(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Key.generate().reveal_base64().rstrip("=")
    with pytest.raises(ProviderConfigError) as caught:
        open_keyset(url.format(key=text))
    assert text[:8] not in str(caught.value)


def test_no_sdk_is_loaded_before_it_is_used() -> None:
    code = """
import json, sys
import keyproviders.keyset
for name in keyproviders.keyset.__all__:
    getattr(keyproviders.keyset, name)
for url in ("aws-kms:alias/a?keyset=file:k.json", "vault-transit:a?keyset=file:k.json"):
    keyproviders.open_provider(url)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    environment = {**os.environ, "VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_TOKEN": "t"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert not {"boto3", "botocore", "hvac", "requests", "sqlalchemy", "tenacity", "typer"} & set(
        json.loads(done.stdout)
    )


def test_a_wrapper_whose_sdk_is_missing_is_found_out_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert isinstance(open_keyset("aws-kms:alias/agents?keyset=file:k.json&region=eu-central-1"), KeysetManager)


def test_an_sql_store_is_made_without_asking_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYSETS_DSN", DSN.format("secret"))
    _, store, *_ = urls.open_keyset_url("aws-kms:alias/a?keyset=sql&dsn_env=KEYSETS_DSN&region=eu-central-1")
    assert isinstance(store, SqlKeysetStore)
    assert "secret" not in store.place


@pytest.mark.parametrize("wrong", [None, 5, b"aws-kms:alias/a?keyset=file:k"])
def test_a_url_of_another_type_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"url must be a str, not {type(wrong).__name__}"):
        open_keyset(wrong)
    with pytest.raises(TypeError, match="allow_insecure must be a bool, not str"):
        open_keyset("aws-kms:alias/a?keyset=file:k", allow_insecure="yes")  # type: ignore[arg-type]  # what is tested
