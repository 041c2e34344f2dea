"""Whether what is merely warned of elsewhere is refused: `strict=True`, or ENCRYPTED_SESSIONS_STRICT=1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import ProviderConfigError

__all__ = ["checked_allow_insecure", "is_strict", "strictness"]

_VARIABLE = "ENCRYPTED_SESSIONS_STRICT"

_asked_for = ContextVar("strict", default=False)


@contextmanager
def strictness(strict: bool) -> Iterator[None]:  # noqa: FBT001 - the one thing that it is about
    """What is made within it is strict if `strict` says so, or if what is around it is strict.

    Not an argument of each provider, wrapper and store in between: packages of others make some of them.
    """
    if not isinstance(strict, bool):
        raise TypeError(f"strict must be a bool, not {type(strict).__name__}")
    token = _asked_for.set(strict or _asked_for.get())
    try:
        yield
    finally:
        _asked_for.reset(token)


def is_strict() -> bool:
    """Whether an object made now has to be strict, that is, to refuse what otherwise causes a warning.

    It stays so for its lifetime.

    Returns:
        True within `KeyRing.from_url(url, strict=True)` and `open_provider(url, strict=True)`, and everywhere with
            ENCRYPTED_SESSIONS_STRICT=1.

    Raises:
        ProviderConfigError: The variable is neither 1 nor 0, so somebody probably wants strict mode.
    """
    text = os.environ.get(_VARIABLE, "")
    if text not in {"", "0", "1"}:
        raise ProviderConfigError(f"{_VARIABLE} is neither 1 nor 0 ({len(text)} characters); set it to 1, or unset it")
    return text == "1" or _asked_for.get()


def checked_allow_insecure(allow_insecure: object) -> bool:
    """It. Raises TypeError, and ProviderConfigError where it is given and everything is strict."""
    if not isinstance(allow_insecure, bool):
        raise TypeError(f"allow_insecure must be a bool, not {type(allow_insecure).__name__}")
    if allow_insecure and is_strict():
        raise ProviderConfigError("allow_insecure=True is refused in strict mode; leave out one of the two")
    return allow_insecure
