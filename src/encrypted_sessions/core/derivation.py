"""How a master key becomes the key of one session.

Two inputs lead here: the 32 random bytes of a `keyproviders.Key`, and the plain string that the
Agents SDK's own class takes. Both go through HKDF-SHA256 (RFC 5869), with a label that each suite
has of its own, so that no two suites share a key. Nor do two sessions whose ids have at most 64
bytes and no NUL. HMAC replaces a longer salt by its hash, whose 32 bytes may be another session's id.
"""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["LONGEST_SALT", "hkdf_sha256", "upstream_secret"]

_KEY_BYTES = 32

#: The most bytes of a session id that HMAC takes as they are: one block of SHA-256.
LONGEST_SALT = 64


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256, extract and expand (RFC 5869, section 2). Lengths are in bytes."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def upstream_secret(text: str) -> tuple[bytes, bool]:
    """The master bytes that the Agents SDK's class takes from a string, and whether they are a key.

    Its rule (0.24.0): what decodes as urlsafe base64 to 32 bytes is those bytes, anything else is
    its own UTF-8. The second value is False where the text is not, character for character, a
    32-byte Fernet key, which is what a caller warns about.
    """
    try:
        decoded = base64.urlsafe_b64decode(text)
    except ValueError:
        decoded = b""
    if len(decoded) != _KEY_BYTES:
        return text.encode("utf-8"), False
    canonical = base64.urlsafe_b64encode(decoded).decode("ascii")
    return decoded, text.replace("+", "-").replace("/", "_") == canonical
