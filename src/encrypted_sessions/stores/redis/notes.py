"""The note that a change leaves beside its list: done, with what outcome.

Who lost the reply asks again under the same number, and finds the note. Scripts name its key, as a cluster and
the key patterns of an ACL want it: so it begins with the list's own key, and falls into the same slot of a cluster.
"""

from __future__ import annotations

from binascii import crc_hqx
from itertools import count

__all__ = ["NOTED_MS", "note_of"]

#: How long the note of a session's change is kept: longer than a client tries again.
NOTED_MS = 60_000

_SLOTS = 2**14


def note_of(key: bytes, number: str) -> bytes:
    """The key of the note for a change of the list at `key`."""
    plain = key + b":change:" + number.encode("ascii")
    if _hashed(key) != key:
        return plain  # its tag is that of the list
    if b"{" not in key and b"}" not in key:
        return key + b":change:{" + key + b"}" + number.encode("ascii")
    # Braces that make no tag, and that would cut one short: some ending leads to the slot, one in so many does.
    slot, begun = crc_hqx(key, 0) % _SLOTS, crc_hqx(plain + b":", 0)
    return plain + b":" + next(end for end in _endings() if crc_hqx(end, begun) % _SLOTS == slot)


def _hashed(key: bytes) -> bytes:
    """What decides on the slot of a key: what stands between its first braces, if that is something."""
    begin = key.find(b"{") + 1
    end = key.find(b"}", begin) if begin else -1
    return key[begin:end] if end > begin else key


def _endings() -> map[bytes]:
    return map(b"%x".__mod__, count())
