"""The tree of what keys can raise."""

from __future__ import annotations

import pickle

import pytest

import keyproviders
from keyproviders import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)

ALL = [
    KeyProviderError,
    KeyUnavailableError,
    KeyAccessDeniedError,
    KeyNotFoundError,
    KeyDisabledError,
    KeyDestroyedError,
    InvalidKeyError,
    ProviderConfigError,
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_takes_a_message_and_is_one_of_the_tree(kind: type[KeyProviderError]) -> None:
    error = kind("what happened")
    assert str(error) == "what happened"
    assert isinstance(error, KeyProviderError)
    assert str(pickle.loads(pickle.dumps(error))) == "what happened"  # noqa: S301 - made in this line
    with pytest.raises(TypeError, match="message must be a str"):
        kind(5)  # type: ignore[arg-type] # what is tested


def test_disabled_and_destroyed_are_ways_of_not_being_found() -> None:
    assert issubclass(KeyDisabledError, KeyNotFoundError)
    assert issubclass(KeyDestroyedError, KeyNotFoundError)
    assert not issubclass(KeyDisabledError, KeyDestroyedError)


def test_wrong_values_are_value_errors_too() -> None:
    assert [kind for kind in ALL if issubclass(kind, ValueError)] == [InvalidKeyError, ProviderConfigError]


def test_only_an_outage_says_when_to_ask_again() -> None:
    assert KeyUnavailableError("down").retry_after_s is None
    assert KeyUnavailableError("down", retry_after_s=2.5).retry_after_s == 2.5
    assert pickle.loads(pickle.dumps(KeyUnavailableError("down", retry_after_s=2))).retry_after_s == 2  # noqa: S301
    for wrong in ("2", True):
        with pytest.raises(TypeError, match="retry_after_s must be a number"):
            KeyUnavailableError("down", retry_after_s=wrong)  # type: ignore[arg-type] # what is tested
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="retry_after_s must be a finite number"):
            KeyUnavailableError("down", retry_after_s=wrong)


def test_every_public_name_is_there() -> None:
    for name in keyproviders.__all__:
        assert getattr(keyproviders, name)
    assert sorted(keyproviders.__all__) == keyproviders.__all__
