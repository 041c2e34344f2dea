"""How a session is named in the log: so that lines can be joined, and nobody learns whose they are."""

from __future__ import annotations

import os
from functools import cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

__all__ = ["PLAIN", "logged_session"]

#: Set to "plain", the log has session ids as they are.
PLAIN = "ENCRYPTED_SESSIONS_LOG_SESSION_IDS"


def logged_session(session_id: str) -> str:
    """A session's name for the log: the same for each line of this process, and another in the next process."""
    if os.environ.get(PLAIN) == "plain":
        return session_id
    name = HMAC(_key_of_this_process(), SHA256())
    name.update(session_id.encode("utf-8", "surrogatepass"))
    return name.finalize().hex()[:16]


@cache
def _key_of_this_process() -> bytes:
    return os.urandom(32)
