"""From the scheme of a URL to what reads it: the one table of providers of keys and of wrappers of keysets.

Nothing is imported before it is used. Other packages add schemes of their own by entry points, a
provider's in the group `keyproviders`, a wrapper's in the group `keyproviders.wrappers`; they are
looked for after the schemes of this table, so that no package can take over one of these, and cost
nothing when their scheme is not asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._support.redaction import redact_frames
from ._support.strictness import checked_allow_insecure, strictness
from .errors import ProviderConfigError
from .provider import KeyProvider

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .wrapping import KeyWrapperType

__all__ = [
    "find_wrapper_type",
    "known_schemes",
    "looks_like_provider_url",
    "open_provider",
    "scheme_of",
    "wrapper_schemes",
]


class _BuiltIn:
    """Where the class of a scheme is, the extra that it needs, and whether it wraps the keys of a keyset.

    Not a named tuple, which takes ten times as long to make as this.
    """

    __slots__ = ("extra", "is_wrapper", "module", "name")

    def __init__(self, module: str, name: str, extra: str | None = None, *, is_wrapper: bool = False) -> None:
        self.module = module
        self.name = name
        self.extra = extra
        self.is_wrapper = is_wrapper


_BUILT_IN = {
    "env": _BuiltIn("local", "EnvKeyProvider"),
    "file": _BuiltIn("local", "FileKeyProvider"),
    "vault-kv": _BuiltIn("vault.kv", "VaultKvKeyProvider", "vault"),
    "vault-transit": _BuiltIn("vault.transit", "VaultTransitKeyWrapper", "vault", is_wrapper=True),
    "aws-secretsmanager": _BuiltIn("aws.secrets_manager", "AwsSecretsManagerKeyProvider", "aws"),
    "aws-kms": _BuiltIn("aws.kms", "AwsKmsKeyWrapper", "aws", is_wrapper=True),
}
# What gives out the keys that a wrapper wraps, whichever wrapper it is.
_KEYSET = _BuiltIn("keyset.provider", "KeysetKeyProvider")

# `scheme = "package.module:factory"`, where `factory(url, *, allow_insecure=False)` gives a KeyProvider.
_PROVIDERS = "keyproviders"
# `scheme = "package.module:Wrapper"`, which has what a KeyWrapperType has.
_WRAPPERS = "keyproviders.wrappers"

_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+.-")
_LONGEST_SCHEME = 32


def known_schemes() -> tuple[str, ...]:
    """The built-in URL schemes of this release.

    Returns:
        The schemes without their colons, in the order of the documentation.
    """
    return tuple(_BUILT_IN)


def wrapper_schemes() -> tuple[str, ...]:
    """Those of them that name a wrapper of a keyset, in alphabetical order."""
    return tuple(sorted(scheme for scheme, built_in in _BUILT_IN.items() if built_in.is_wrapper))


def looks_like_provider_url(text: str) -> bool:
    """Whether `text` starts with a known scheme and a colon, in capitals or not.

    Nothing else is checked, so a URL with a mistake in it is recognised too.

    Args:
        text: Any text.

    Returns:
        Whether it does.

    Raises:
        TypeError: The text is not a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    scheme, colon, _ = text.partition(":")
    return bool(colon) and scheme.strip().lower() in _BUILT_IN


@redact_frames
def open_provider(url: str, *, allow_insecure: bool = False, strict: bool = False) -> KeyProvider:
    """The provider that reads keys at `url`, such as `env:SESSION_KEYS`. No I/O happens yet.

    Other packages offer providers through the entry-point group `keyproviders`: the name is the
    scheme, the value a `factory(url, *, allow_insecure=False)`. Built-in schemes come first.

    Args:
        url: Where the keys are. Secrets are never accepted in a URL.
        allow_insecure: Allow the provider to use an unprotected connection, with a warning.
        strict: Refuse what otherwise causes a warning: files that others may read or replace, and `allow_insecure`.
            ENCRYPTED_SESSIONS_STRICT=1 does so everywhere.

    Returns:
        The provider.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: No provider reads this URL, or its provider refuses it.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    with strictness(strict):
        return _provider_of(url.strip(), allow_insecure=checked_allow_insecure(allow_insecure))


def _provider_of(url: str, *, allow_insecure: bool) -> KeyProvider:
    scheme = scheme_of(url)
    if scheme is None:
        # Nothing of it is shown: it may well be the key itself.
        raise ProviderConfigError(
            f"the URL of a key provider ({len(url)} characters given) must begin with a scheme; {_what_is_known()}"
        )
    built_in = _BUILT_IN.get(scheme)
    if built_in is not None:
        return _opened(_KEYSET if built_in.is_wrapper else built_in, url, allow_insecure=allow_insecure)
    offered = _entry_point(scheme)
    if offered is None:
        raise ProviderConfigError(f"no key provider reads URLs that begin with {scheme}: ; {_what_is_known()}")
    if offered.group == _WRAPPERS:
        return _opened(_KEYSET, url, allow_insecure=allow_insecure)
    opened = offered.load()(url, allow_insecure=allow_insecure)
    if not isinstance(opened, KeyProvider):
        raise ProviderConfigError(
            f"{offered.value}, which reads URLs that begin with {scheme}: , gave a {type(opened).__name__}, not a"
            " provider with active() and get(name)"
        )
    return opened


def find_wrapper_type(scheme: str) -> KeyWrapperType | None:
    """What makes the wrappers of that scheme; None where the scheme names none.

    Raises ProviderConfigError where several packages offer the scheme, or where what is offered makes
    no wrappers.
    """
    built_in = _BUILT_IN.get(scheme)
    if built_in is not None:
        return _load(built_in) if built_in.is_wrapper else None
    offered = _entry_point(scheme)
    if offered is None or offered.group != _WRAPPERS:
        return None
    found: KeyWrapperType = offered.load()
    needed = ("URL_OPTIONS", "URL_REFUSED", "URL_EXAMPLE", "from_options")
    lacking = [name for name in needed if not hasattr(found, name)]
    if lacking:
        raise ProviderConfigError(
            f"{offered.value}, which wraps keys for URLs that begin with {scheme}: , has no {lacking[0]}"
        )
    return found


def scheme_of(url: str) -> str | None:
    """The scheme of a URL in small letters; None where it begins with none."""
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    if not colon or len(scheme) > _LONGEST_SCHEME or not scheme[:1].isalpha() or not _SCHEME.issuperset(scheme):
        return None
    return scheme


def _opened(built_in: _BuiltIn, url: str, *, allow_insecure: bool) -> KeyProvider:
    opened: KeyProvider = _load(built_in).from_url(url, allow_insecure=allow_insecure)
    return opened


def _load(built_in: _BuiltIn) -> Any:
    return getattr(import_module(f".{built_in.module}", __package__), built_in.name)


def _entry_point(scheme: str) -> EntryPoint | None:
    """What another package offers for that scheme. It is not loaded yet."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs as much to load as all of this package

    found = [one for one in entry_points(name=scheme) if one.group in {_PROVIDERS, _WRAPPERS}]
    if len(found) > 1:
        owners = ", ".join(sorted(f"{one.dist.name if one.dist else '?'} ({one.value})" for one in found))
        raise ProviderConfigError(
            f"several packages read URLs that begin with {scheme}: : {owners}; uninstall all but one"
        )
    return found[0] if found else None


def _what_is_known() -> str:
    known = ", ".join(f"{scheme}:" + (f" (extra [{of.extra}])" if of.extra else "") for scheme, of in _BUILT_IN.items())
    return f"this release reads {known}, as in env:SESSION_KEYS"
