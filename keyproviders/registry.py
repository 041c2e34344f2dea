"""From the scheme of a URL to the provider that reads it. Nothing is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from ._support.redaction import redact_frames
from .errors import ProviderConfigError
from .provider import KeyProvider

__all__ = ["known_schemes", "looks_like_provider_url", "open_provider"]


class _BuiltIn(NamedTuple):
    """Where a scheme's provider is, and the extra that it needs."""

    module: str
    name: str
    extra: str | None


_BUILT_IN = {
    "env": _BuiltIn("local", "EnvKeyProvider", None),
    "file": _BuiltIn("local", "FileKeyProvider", None),
    "vault-kv": _BuiltIn("vault.kv", "VaultKvKeyProvider", "vault"),
    "vault-transit": _BuiltIn("keyset.provider", "KeysetKeyProvider", "vault"),
    "aws-secretsmanager": _BuiltIn("aws.secrets_manager", "AwsSecretsManagerKeyProvider", "aws"),
    "aws-kms": _BuiltIn("keyset.provider", "KeysetKeyProvider", "aws"),
}

# The entry-point group by which other packages offer providers: ``scheme = "package.module:factory"``,
# where ``factory(url, *, allow_insecure=False)`` gives a KeyProvider.
_GROUP = "keyproviders"

_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+.-")
_LONGEST_SCHEME = 32


def known_schemes() -> tuple[str, ...]:
    """The URL schemes that this release knows by itself, in the order of the documentation."""
    return tuple(_BUILT_IN)


def looks_like_provider_url(text: str) -> bool:
    """Whether ``text`` starts with a known scheme and a colon, in capitals or not.

    It looks at nothing else, so that also a URL with a mistake in it is recognised.
    Raises TypeError for anything but a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    scheme, colon, _ = text.partition(":")
    return bool(colon) and scheme.strip().lower() in _BUILT_IN


@redact_frames
def open_provider(url: str, *, allow_insecure: bool = False) -> KeyProvider:
    """The provider that reads keys at ``url``, such as ``env:SESSION_KEYS``. No I/O happens yet.

    Other packages offer providers through the entry-point group ``keyproviders``: the name is the
    scheme, the value a ``factory(url, *, allow_insecure=False)``. Built-in schemes come first.

    ``allow_insecure=True`` lets a provider use a connection that is not protected; it warns then.

    Raises TypeError for a wrong type and ProviderConfigError for a URL that no provider reads, or
    that its provider refuses. Secrets are never accepted in a URL.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    if not isinstance(allow_insecure, bool):
        raise TypeError(f"allow_insecure must be a bool, not {type(allow_insecure).__name__}")
    url = url.strip()
    scheme = _scheme_of(url)
    built_in = _BUILT_IN.get(scheme)
    if built_in is None:
        return _third_party(scheme, url, allow_insecure=allow_insecure)
    provider = getattr(import_module(f".{built_in.module}", __package__), built_in.name)
    opened: KeyProvider = provider.from_url(url, allow_insecure=allow_insecure)
    return opened


def _third_party(scheme: str, url: str, *, allow_insecure: bool) -> KeyProvider:
    # Looked for only now, after the built-in ones: a package that is installed tomorrow cannot take
    # over a scheme, and costs nothing when its scheme is not asked for.
    from importlib.metadata import entry_points  # noqa: PLC0415 - reads what is installed

    found = list(entry_points(group=_GROUP, name=scheme))
    if not found:
        raise ProviderConfigError(f"no provider of keys reads URLs that begin with {scheme}: ; {_what_is_known()}")
    if len(found) > 1:
        owners = ", ".join(sorted(f"{one.dist.name if one.dist else '?'} ({one.value})" for one in found))
        raise ProviderConfigError(
            f"several packages read URLs that begin with {scheme}: : {owners}; uninstall all but one"
        )
    opened = found[0].load()(url, allow_insecure=allow_insecure)
    if not isinstance(opened, KeyProvider):
        raise ProviderConfigError(
            f"{found[0].value}, which reads URLs that begin with {scheme}: , gave a {type(opened).__name__}, not a"
            " provider with active() and get(name)"
        )
    return opened


def _scheme_of(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    if not colon or len(scheme) > _LONGEST_SCHEME or not scheme[:1].isalpha() or not _SCHEME.issuperset(scheme):
        # Nothing of it is shown: it may well be the key itself.
        raise ProviderConfigError(
            f"what was given as the URL of a provider ({len(url)} characters) begins with no scheme; {_what_is_known()}"
        )
    return scheme


def _what_is_known() -> str:
    known = ", ".join(f"{scheme}:" + (f" (extra [{of.extra}])" if of.extra else "") for scheme, of in _BUILT_IN.items())
    return f"this release reads {known}, as in env:SESSION_KEYS"
