"""How a session is named in the log: so that lines can be joined, and nobody learns whose they are."""

from __future__ import annotations

import hashlib
import hmac
import os
from functools import cache

__all__ = ["PLAIN", "logged_session"]

#: Set to "plain", the log has session ids as they are.
PLAIN = "ENCRYPTED_SESSIONS_LOG_SESSION_IDS"


def logged_session(session_id: str) -> str:
    """A session's name for the log: the same for each line of this process, and another in the next process."""
    if os.environ.get(PLAIN) == "plain":
        return session_id
    return hmac.new(_key_of_this_process(), session_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[
        :16
    ]


@cache
def _key_of_this_process() -> bytes:
    return os.urandom(32)
