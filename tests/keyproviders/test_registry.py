"""From a URL to a provider."""

from __future__ import annotations

import base64
import traceback

import pytest

from keyproviders import Key, ProviderConfigError, known_schemes, looks_like_provider_url, open_provider
from keyproviders.local import EnvKeyProvider


def test_the_known_schemes_are_those_of_the_documentation() -> None:
    assert known_schemes() == ("env", "file", "vault-kv", "vault-transit", "aws-secretsmanager", "aws-kms")


@pytest.mark.parametrize("url", ["env:KEYS", "ENV:KEYS", " env:KEYS\n"])
def test_env_opens_the_provider_of_variables(url: str) -> None:
    provider = open_provider(url)
    assert isinstance(provider, EnvKeyProvider)
    assert provider.place == "env:KEYS"


@pytest.mark.parametrize("text", ["env:X", "ENV:x", "file:/a", "vault-kv://h/p", "Aws-Kms:", "env:", " env:X"])
def test_a_text_with_a_known_scheme_looks_like_a_url(text: str) -> None:
    assert looks_like_provider_url(text)


@pytest.mark.parametrize("text", ["", "env", "environment:X", "a secret: with a colon", "http://x", ":env", "x env:X"])
def test_another_text_does_not(text: str) -> None:
    assert not looks_like_provider_url(text)


def test_an_unknown_scheme_names_the_known_ones_and_their_extras() -> None:
    with pytest.raises(ProviderConfigError, match="begin with gopher: ") as caught:
        open_provider("gopher://x")
    for scheme in known_schemes():
        assert f"{scheme}:" in str(caught.value)
    assert "[vault]" in str(caught.value)
    assert "[aws]" in str(caught.value)


@pytest.mark.parametrize("after", ["", ":x", "://user:password@host"])
def test_what_may_be_a_secret_is_never_shown(after: str) -> None:
    secret = base64.b64encode(bytes(range(32))).decode()
    try:
        open_provider(secret + after)
    except ProviderConfigError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    else:
        pytest.fail("nothing was refused")
    assert "must begin with a scheme" in shown
    for step in shown.split("\n  File "):
        assert "test_registry.py" in step or secret[:20].lower() not in step.lower()


def test_only_the_scheme_of_an_unknown_url_is_shown() -> None:
    with pytest.raises(ProviderConfigError) as caught:
        open_provider("gopher://hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_wrong_types_are_type_errors() -> None:
    for call in (
        lambda: open_provider(Key.generate()),  # type: ignore[arg-type] # what is tested
        lambda: open_provider("env:X", allow_insecure="yes"),  # type: ignore[arg-type] # what is tested
        lambda: looks_like_provider_url(b"env:X"),  # type: ignore[arg-type] # what is tested
    ):
        with pytest.raises(TypeError, match="must be a"):
            call()
