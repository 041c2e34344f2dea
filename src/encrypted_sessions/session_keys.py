"""Which keys a session has, from what it was given; what can be guessed is told, and refused where that is wished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import arguments
from ._support.warnings import warn_caller
from .core.derivation import LONGEST_SALT, upstream_secret
from .errors import LongSessionIdWarning, WeakKeyWarning
from .history.keychain import Keychain, RingKeychain, StringKeychain
from .history.sealing import FIRST_SUITE, Sealing

if TYPE_CHECKING:
    from keyproviders import KeyRing

__all__ = ["keychain_of"]


def keychain_of(encryption_key: str | KeyRing, upstream_key: str | None, session_id: str, sealing: Sealing) -> Keychain:
    """The keys of a session. Raises TypeError and ValueError, and ProviderConfigError as `is_strict` does."""
    if upstream_key is not None:
        arguments.key_string(upstream_key, "upstream_key")
    if arguments.is_key_ring(encryption_key):
        keychain = RingKeychain(encryption_key, session_id, upstream_key, sealing.realm, sealing.suite)
        strict = keychain.strict
        if sealing.oldest_suite == FIRST_SUITE:
            _warn_of_long_id(session_id, strict=strict)
        if upstream_key is not None and _is_weak(*upstream_secret(upstream_key)):
            _warn_of_weak_key(
                "upstream_key", "move its rows to the ring with 'encrypted-sessions encrypt'", strict=strict
            )
        return keychain
    text = arguments.key_string(encryption_key, "encryption_key")
    if upstream_key is not None:
        raise ValueError(
            "upstream_key goes with a KeyRing; with a string, encryption_key reads the rows that the SDK's class wrote"
        )
    from keyproviders import is_strict  # noqa: PLC0415 - a ring knows itself

    strict = is_strict()
    _warn_of_long_id(session_id, strict=strict)
    secret, is_key = upstream_secret(text)
    if _is_weak(secret, is_key):
        _warn_of_weak_key(
            "encryption_key", "use the output of 'encrypted-sessions keygen', or a KeyRing", strict=strict
        )
    return StringKeychain(secret, session_id, strict=strict, realm=sealing.realm)


def _is_weak(secret: bytes, is_key: bool) -> bool:  # noqa: FBT001 - the two that `upstream_secret` gives
    from keyproviders import weakness_of  # noqa: PLC0415 - a ring looks itself

    return not is_key or weakness_of(secret) is not None


def _warn_of_weak_key(argument: str, way_out: str, *, strict: bool) -> None:
    problem = f"{argument} is not 32 random bytes in base64"
    if strict:
        raise ValueError(f"{problem}, and can be guessed, which strict mode refuses: {way_out}")
    warn_caller(
        f"{problem}. It works, but whoever copies the store can try any number of passwords against it: {way_out}",
        WeakKeyWarning,
    )


def _warn_of_long_id(session_id: str, *, strict: bool) -> None:
    # Few characters are few bytes, and that is known without counting these.
    if len(session_id) * 4 <= LONGEST_SALT or len(session_id.encode("utf-8")) <= LONGEST_SALT:
        return
    problem = (
        f"the session id has more than {LONGEST_SALT} bytes of UTF-8: another id can have the same session key, so"
        " a row copied from one session to the other would open"
    )
    if strict:
        raise ValueError(f"{problem}, which strict mode refuses. Use a shorter id")
    # The id is left out, so that Python tells it once a line of the application, and not once an id.
    warn_caller(f"{problem}. Use shorter ids, such as UUIDs, for new sessions", LongSessionIdWarning)
