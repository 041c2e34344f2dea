"""The URL of a provider taken apart: `scheme:path?option=value&option=value`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import unquote

from ..errors import ProviderConfigError

__all__ = ["split_url"]

_OPTION = re.compile(r"[a-z_]{1,24}\Z")


def split_url(
    url: str, *, options: Collection[str], refused: Mapping[str, str], form: str
) -> tuple[str, dict[str, str]]:
    """The path and the options of a URL.

    `options` are the names that may come; `refused` has further names, each with what to do
    instead, in words; `form` is an example for messages. Percent signs are decoded; a plus sign
    is a plus sign. No value is ever shown: somebody will put a secret there.

    Raises ProviderConfigError.
    """
    scheme, _, rest = url.partition(":")
    if "#" in rest:
        raise ProviderConfigError(
            f"a {scheme}: URL must not have a part after '#'; write a '#' in a name as %23, as in {form}"
        )
    path, question, query = rest.partition("?")
    if path.startswith("//"):
        raise ProviderConfigError(f"a {scheme}: URL must not have '//' or a host; write it as {form}")
    found: dict[str, str] = {}
    for part in query.split("&") if question else ():
        name, sign, value = part.partition("=")
        if name in refused:
            raise ProviderConfigError(f"{name} does not belong in a {scheme}: URL; {refused[name]}")
        if name not in options:
            shown = repr(name) if _OPTION.match(name) else "of that name"
            raise ProviderConfigError(
                f"a {scheme}: URL has no option {shown}; its options are {', '.join(sorted(options))}"
            )
        if name in found:
            raise ProviderConfigError(f"the {scheme}: URL has {name} twice; give it once")
        if not sign or not value:
            raise ProviderConfigError(f"{name} has no value in the {scheme}: URL; write {name}=..., or leave it out")
        found[name] = _decoded(value, f"the value of {name}", scheme)
    return _decoded(path, "the path", scheme), found


def _decoded(text: str, what: str, scheme: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        problem = f"{what} in the {scheme}: URL has percent signs that do not decode to UTF-8"
    raise ProviderConfigError(problem)
