"""What a session is called where its id, which often is a person's, must not stand: in audit files and in spans."""

from __future__ import annotations

import hmac
from typing import Literal, get_args

from keyproviders import Key, KeyRing, redact_frames

__all__ = ["SessionIds", "checked_session_ids", "opened_ring", "pseudonym"]

#: How sessions are named: not at all, by a pseudonym, or by their ids.
SessionIds = Literal["omitted", "hashed", "plain"]


def pseudonym(session_id: str, key: Key) -> str:
    """The same for the same session as long as the key is the same; without the key it leads back to nobody."""
    return hmac.digest(key.secret, session_id.encode("utf-8", "surrogatepass"), "sha256").hex()


def checked_session_ids(session_ids: object, pseudonym_keys: object) -> SessionIds:
    """The argument `session_ids`, which goes together with `pseudonym_keys` when it is "hashed", and only then."""
    if not isinstance(session_ids, str):
        raise TypeError(f"session_ids must be a str, not {type(session_ids).__name__}")
    for word in get_args(SessionIds):
        if session_ids == word:
            break
    else:
        raise ValueError(f'session_ids must be "omitted", "hashed" or "plain", not {session_ids!r:.100}')
    if (word == "hashed") != (pseudonym_keys is not None):
        raise ValueError(
            'session_ids="hashed" and pseudonym_keys go together: a KeyRing or a URL, with keys used for nothing else'
        )
    checked: SessionIds = word
    return checked


@redact_frames
def opened_ring(given: object, argument: str) -> tuple[KeyRing | None, bool]:
    """A ring, or one over a URL, or None; and whether it was made here, so that it is to be closed here."""
    if given is None or isinstance(given, KeyRing):
        return given, False
    if isinstance(given, str):
        return KeyRing.from_url(given), True
    raise TypeError(f"{argument} must be a KeyRing, a URL or None, not {type(given).__name__}")
