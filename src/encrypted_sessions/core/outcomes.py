"""What reading can find: each stored row ends as exactly one of these, and none as another."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

__all__ = [
    "EXPLANATIONS",
    "MAX_FINDINGS",
    "PASSED_OVER",
    "SUSPICIOUS",
    "UNREADABLE",
    "Outcome",
    "describe",
]

Outcome = Literal[
    "ok",
    "expired",
    "expired_unverified",
    "erased",
    "not_yet_valid",
    "key_disabled",
    "key_not_asked",
    "unknown_key",
    "unauthentic",
    "late_key",
    "plaintext",
    "malformed",
    "unsupported",
    "outdated",
    "too_large",
    "unpaired",
]

#: Outcomes that raise under on_unreadable="raise".
UNREADABLE: tuple[Outcome, ...] = (
    "not_yet_valid",
    "key_disabled",
    "key_not_asked",
    "unknown_key",
    "unauthentic",
    "late_key",
    "plaintext",
    "malformed",
    "unsupported",
    "outdated",
    "too_large",
)

#: Outcomes that are left out whatever the policy, and stay where they are.
PASSED_OVER: tuple[Outcome, ...] = ("expired_unverified", "erased")

#: Outcomes that point to somebody who writes to the store: what the log calls an error.
SUSPICIOUS: tuple[Outcome, ...] = ("unauthentic", "late_key")

#: What each means, and what to do about it.
EXPLANATIONS: Mapping[str, str] = MappingProxyType(
    {
        "expired_unverified": "its key is gone, and it claims to be older than the ttl. It stays in the store.",
        "erased": "its key was destroyed permanently, so nobody can read it again.",
        "not_yet_valid": "sealed more than 60 s in the future: a clock is skewed, here or"
        " where it was written. Compare the clocks (NTP), then read again.",
        "key_disabled": "its key is disabled where it is kept, and may come back. Enable it there, then read again.",
        "key_not_asked": "there were more unknown key ids than can be looked up during one read: whoever"
        " writes to the store can invent ids. Read again: keys that exist are then found.",
        "late_key": "sealed more than 60 s after its key had stopped writing: by somebody who still has that key,"
        " or by a writer with a slow clock or outdated keys. Find out who; `encrypted-sessions discard` removes"
        " it, and keeps a copy.",
        "unknown_key": "no place of keys that this process uses has a key with this kid. Add the old key to one,"
        " or add its place to also_read=; rows of the Agents SDK's own class (kid 'hkdf-v1') need upstream_key=.",
        "unauthentic": "altered, or sealed with another key. Check that this process uses the"
        " same key and session id as the writer. If it was altered, `encrypted-sessions discard` removes"
        " it, and keeps a copy.",
        "plaintext": "not encrypted. If it was written before encryption was switched on and you"
        " trust who wrote it, plaintext='read' returns it, and `encrypted-sessions encrypt` seals it.",
        "malformed": "not an envelope of this library or of the SDK's class, and not a plain"
        " item: damaged, or written by other software. `encrypted-sessions discard` removes such rows, and"
        " keeps a copy.",
        "too_large": "larger than max_row_bytes, so it was not read. Give a larger max_row_bytes= if your"
        " items are that large; otherwise somebody may be trying to fill memory.",
        "unsupported": "written by a later release. Upgrade encrypted-sessions.",
        "outdated": "of a suite before oldest_suite, so it was not opened. If such rows are yours, read them with"
        " oldest_suite=1; `encrypted-sessions reencrypt` moves them to a newer suite.",
    }
)

MAX_FINDINGS = 20


def describe(counts: Mapping[str, int]) -> str:
    """Counts in words, as logs and errors give them: "2 unauthentic, 1 plaintext"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
