"""Keys that somebody typed: a placeholder of an example, or a sentence."""

from __future__ import annotations

from itertools import pairwise

from ._support.redaction import redact_frames
from ._support.warnings import warn_caller
from .errors import InvalidKeyError, WeakKeyWarning
from .key import Key

__all__ = ["check_strength", "weakness_of"]

# Of 32 random bytes about 30 are different; so few are never drawn.
_FEW = 8

_told: set[str] = set()


@redact_frames
def weakness_of(secret: bytes) -> str | None:
    """Why these bytes can be guessed: they are a placeholder or a sentence. For authors of providers.

    Random bytes are mistaken for one of these less than once in 10**9 keys.

    Args:
        secret: The bytes of a key.

    Returns:
        A description that contains no part of the bytes; None for bytes that may be random.

    Raises:
        TypeError: The argument is not bytes.
    """
    if not isinstance(secret, bytes):
        raise TypeError(f"secret must be bytes, not {type(secret).__name__}")
    if not any(secret):
        return "only zeros"
    steps = {(after - before) % 256 for before, after in pairwise(secret)}
    if len(steps) == 1:
        return "one byte that repeats" if steps == {0} else "a sequence of bytes that counts up or down"
    if len(set(secret)) <= _FEW or secret[: len(secret) // 2] * 2 == secret:
        return "a few bytes that repeat"
    try:
        text = secret.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "readable text" if text.isprintable() else None


def check_strength(key: Key, where: str, *, active: bool, strict: bool) -> None:
    """Warn WeakKeyWarning, once a key, of one that can be guessed.

    Raises InvalidKeyError where nothing may be sealed with it: for zeros, and for each of them where it
    is `strict`. What was sealed with it can still be opened.
    """
    weakness = weakness_of(key.secret)
    if weakness is None:
        return
    problem = f"{where}: the key {key.kid} is {weakness}, not a random key"
    if active and (strict or not any(key.secret)):
        raise InvalidKeyError(
            f"{problem}, so nothing is sealed with it; put a key from `encrypted-sessions keygen` before it,"
            " under another name"
        )
    if key.kid not in _told:
        _told.add(key.kid)
        warn_caller(
            f"{problem}: whoever copies the store can guess it; put a key from `encrypted-sessions keygen`"
            " before it, and seal its rows again (encrypted-sessions reencrypt)",
            WeakKeyWarning,
        )
