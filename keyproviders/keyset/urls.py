"""From the URL of a keyset to its wrapper, its store and its name."""

from __future__ import annotations

from typing import NamedTuple

from .._support.redaction import redact_frames
from .._support.strictness import checked_allow_insecure
from .._support.urls import split_url
from ..errors import ProviderConfigError
from ..registry import find_wrapper_type, scheme_of, wrapper_schemes
from ..wrapping import KeyWrapper
from . import stores
from .stores.base import KeysetStore

__all__ = ["OpenedURL", "open_keyset_url"]

_OPTIONS = frozenset({"keyset", "keyset_name", "keyset_id"})
_REFUSED = {
    "dsn": "URLs are logged and shown, and a DSN may have a password; put it into a variable, and name that in dsn_env",
    "store": "the option is called keyset, as in keyset=file:/etc/agents/keyset.json",
}


class OpenedURL(NamedTuple):
    """What the URL of a keyset says; `keyset_id` is None where it does not name one."""

    wrapper: KeyWrapper
    store: KeysetStore
    name: str
    keyset_id: str | None


@redact_frames
def open_keyset_url(url: str, *, allow_insecure: bool = False) -> OpenedURL:
    """The wrapper, the store, the name and the id of the keyset of a URL such as `aws-kms:` or `vault-transit:`.

    Nothing is asked yet. Raises ProviderConfigError.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    checked_allow_insecure(allow_insecure)
    url = url.strip()
    scheme = scheme_of(url)
    wrapper_type = find_wrapper_type(scheme) if scheme is not None else None
    if scheme is None or wrapper_type is None:
        # Nothing of it is shown: it may well be a key.
        raise ProviderConfigError(
            f"the URL of a keyset ({len(url)} characters given) must begin with one of"
            f" {', '.join(f'{known}:' for known in wrapper_schemes())}; write it as in"
            f" aws-kms:alias/agents?{stores.EXAMPLES}"
        )
    path, options = split_url(
        url,
        options=frozenset({*wrapper_type.URL_OPTIONS, *_OPTIONS, *stores.URL_OPTIONS}),
        refused={**wrapper_type.URL_REFUSED, **_REFUSED},
        form=f"{wrapper_type.URL_EXAMPLE}?keyset=file:/etc/agents/keyset.json",
    )
    place = options.pop("keyset", None)
    name = options.pop("keyset_name", "default")
    keyset_id = options.pop("keyset_id", None)
    if place is None:
        raise ProviderConfigError(f"the {scheme}: URL does not say where its keyset is; add {stores.EXAMPLES}")
    of_store = {option: options.pop(option) for option in stores.URL_OPTIONS if option in options}
    store = stores.open_store(place, of_store, scheme, allow_insecure=allow_insecure)
    wrapper = wrapper_type.from_options(path, options, allow_insecure=allow_insecure)
    return OpenedURL(wrapper, store, name, keyset_id)
