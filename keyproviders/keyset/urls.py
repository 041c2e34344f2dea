"""From the URL of a keyset to its wrapper, its store and its name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .._support.paths import path_in_url
from .._support.redaction import redact_frames
from .._support.urls import split_url
from ..errors import ProviderConfigError
from ..key import try_key_text
from .stores.base import KeysetStore
from .stores.file import FileKeysetStore
from .stores.sql import SqlKeysetStore
from .wrapping import KeyWrapper

__all__ = ["open_keyset_url"]

_WRAPPERS = {
    "aws-kms": ("keyproviders.aws.kms", "AwsKmsKeyWrapper", "aws-kms:alias/agents"),
    "vault-transit": ("keyproviders.vault.transit", "VaultTransitKeyWrapper", "vault-transit:agents"),
}

_OPTIONS = ("keyset", "dsn_env", "keyset_name")
_REFUSED = {
    "dsn": "URLs are logged and shown, and a DSN may have a password; put it into a variable, and name that in dsn_env",
    "store": "it is called keyset, as in keyset=file:/etc/agents/keyset.json",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_PLACES = "keyset=file:/etc/agents/keyset.json, or keyset=sql&dsn_env=DATABASE_URL"


@redact_frames
def open_keyset_url(url: str, *, allow_insecure: bool = False) -> tuple[KeyWrapper, KeysetStore, str]:
    """The wrapper, the store and the name of the keyset of an ``aws-kms:`` or ``vault-transit:`` URL.

    Nothing is asked yet. Raises ProviderConfigError.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    if not isinstance(allow_insecure, bool):
        raise TypeError(f"allow_insecure must be a bool, not {type(allow_insecure).__name__}")
    url = url.strip()
    scheme = url.partition(":")[0].lower()
    if ":" not in url or scheme not in _WRAPPERS:
        # Nothing of it is shown: it may well be a key.
        raise ProviderConfigError(
            f"what was given as the URL of a keyset ({len(url)} characters) begins with none of"
            f" {', '.join(f'{known}:' for known in _WRAPPERS)}; write it as in {_WRAPPERS['aws-kms'][2]}?{_PLACES}"
        )
    module, name, example = _WRAPPERS[scheme]
    wrapper_class: Any = getattr(import_module(module), name)
    path, options = split_url(
        url,
        options=frozenset({*wrapper_class.URL_OPTIONS, *_OPTIONS}),
        refused={**wrapper_class.URL_REFUSED, **_REFUSED},
        form=f"{example}?keyset=file:/etc/agents/keyset.json",
    )
    ours = {option: options.pop(option) for option in _OPTIONS if option in options}
    store = _store_of(ours, scheme)
    wrapper: KeyWrapper = wrapper_class.from_options(path, options, allow_insecure=allow_insecure)
    return wrapper, store, ours.get("keyset_name", "default")


def _store_of(options: Mapping[str, str], scheme: str) -> KeysetStore:
    place = options.get("keyset")
    if place is None:
        raise ProviderConfigError(f"the {scheme}: URL does not say where its keyset is; add {_PLACES}")
    if place == "sql":
        return SqlKeysetStore(_dsn(options.get("dsn_env"), scheme))
    if not place.startswith("file:"):
        raise ProviderConfigError(
            f"the keyset of a {scheme}: URL is neither in a file nor in an SQL database; write {_PLACES}"
        )
    if "dsn_env" in options:
        raise ProviderConfigError(f"dsn_env does nothing for a keyset in a file; leave it out of the {scheme}: URL")
    return FileKeysetStore(path_in_url(place.removeprefix("file:")))


def _dsn(variable: str | None, scheme: str) -> str:
    if variable is None:
        raise ProviderConfigError(
            f"the {scheme}: URL does not say where the DSN of its database is; put it into a variable, and add"
            " dsn_env=DATABASE_URL with that variable's name"
        )
    if not _VARIABLE.match(variable) or try_key_text(variable)[0] is not None:
        # Not shown: this is where somebody puts the DSN itself.
        raise ProviderConfigError(
            f"dsn_env of the {scheme}: URL is no name of a variable; put the DSN into a variable, and give its name"
        )
    dsn = os.environ.get(variable)
    if not dsn:
        raise ProviderConfigError(
            f"the environment variable {variable} is not set or empty; set it to the DSN of the keyset's database"
        )
    return dsn
