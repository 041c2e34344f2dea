"""Whether the key that seals is younger than somebody's rules allow."""

from __future__ import annotations

from .._support.durations import format_minutes
from .diagnosis import Check, Diagnosis, Status

__all__ = ["age_in_words", "with_age_limit"]


def age_in_words(seconds: float) -> str:
    """As a sentence has it: days, from two on."""
    days = seconds / 86_400
    if days >= 2:
        return f"{days:.0f} days"
    return "less than a minute" if seconds < 60 else format_minutes(seconds)


def with_age_limit(found: Diagnosis, most_s: float | None) -> Diagnosis:
    """The diagnosis with one check more: `age`, which fails for an older key, and for one whose age nobody says.

    None: there is no limit, and no such check.
    """
    if most_s is None:
        return found
    status: Status = "failed"
    advice: str | None = None
    limit = age_in_words(most_s)
    if found.kid is None:
        status, words = "not tried", "no key could be fetched"
    elif found.key_age_s is None:
        words = (
            f"it is not known whether {found.kid} is older than {limit}: the place of keys does not say when"
            " it was made"
        )
        advice = (
            "keep keys where their age is recorded (a keyset, Vault, Secrets Manager), or keep your"
            " own records, without --max-key-age"
        )
    elif found.key_age_s > most_s:
        words = f"{found.kid} is older than {limit}: it was made {found.key_created_at:%Y-%m-%d %H:%M} UTC"
        advice = "rotate: make another key the active one"
    else:
        status, words = "ok", f"{found.kid} is not older than {limit}"
    took_s = None if status == "not tried" else 0.0
    return found._replace(checks=(*found.checks, Check("age", status, words, took_s, None, advice)))
