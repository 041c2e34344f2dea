"""The findings of `doctor` in words and as JSON."""

from __future__ import annotations

import json
import sys
from importlib import metadata

from .examination import Check, Diagnosis

__all__ = ["as_json", "in_words"]

_MARKS = {"ok": "ok", "failed": "FAILED", "not tried": "-"}


def in_words(found: Diagnosis) -> str:
    """One line for each check, what to do where one failed, and what the ring would do in an outage."""
    cache, retry = found.cache, found.retry
    lines = [f"encrypted-sessions {_version()}, Python {sys.version.split()[0]}", ""]
    for check in found.checks:
        lines.append(f"{_MARKS[check.status]:<7} {check.name:<14} {_took(check):>9}  {check.found}")
        if check.advice is not None:
            lines.append(f"{'':<34}To do: {check.advice}")
    lines += [f"{'note':<7} {text}" for text in found.remarks]
    lines += [f"{'warning':<7} {text}" for text in found.warnings]
    lines += ["", f"The key's age: {_age(found)}."]
    lines += [
        "",
        "In an outage a process that holds its keys, with a ring of these numbers"
        + (" (the defaults):" if _are_defaults(found) else ":"),
        f"  writes for {_minutes(cache.stale_write_s)} after the last answer,",
        f"  reads for {_minutes(cache.stale_read_s)} after the last answer,",
        f"  goes on for {_minutes(cache.denied_grace_s)} when access is denied,",
        f"  asks again by itself when its active key is {_minutes(0.8 * cache.fresh_s)} old, and waits for nothing.",
        f"A process that holds none yet fails within {retry.deadline_s:g} s, with an error that says so.",
        "",
        _verdict(found),
    ]
    return "\n".join(lines) + "\n"


def as_json(found: Diagnosis) -> str:
    """The same for programs. Times are in seconds, except where the name says minutes."""
    cache, retry = found.cache, found.retry
    return json.dumps(
        {
            "ok": found.ok,
            "version": _version(),
            "place": found.place,
            "kid": found.kid,
            "key_created_at": None if found.key_created_at is None else found.key_created_at.isoformat(),
            "key_age_s": found.key_age_s,
            "checks": [check._asdict() for check in found.checks],
            "remarks": list(found.remarks),
            "warnings": list(found.warnings),
            "in_an_outage": {
                "writes_for_minutes": cache.stale_write_s / 60,
                "reads_for_minutes": cache.stale_read_s / 60,
                "goes_on_when_denied_for_minutes": cache.denied_grace_s / 60,
                "without_a_key_fails_within_s": retry.deadline_s,
            },
        },
        indent=2,
    )


def _verdict(found: Diagnosis) -> str:
    if found.ok:
        return "All is well."
    failed = [check.name for check in found.checks if check.status == "failed"]
    return f"Not well: {', '.join(failed)}."


def _age(found: Diagnosis) -> str:
    if found.kid is None:
        return "not known, for no key came"
    if found.key_age_s is None or found.key_created_at is None:
        return "not said by its place"
    days = found.key_age_s / 86_400
    words = f"{days:.0f} days" if days >= 2 else _minutes(found.key_age_s)
    if found.key_age_s < 60:
        words = "less than a minute"
    return f"{words} (made {found.key_created_at:%Y-%m-%d %H:%M} UTC)"


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    words = f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.3g}"
    unit = "minute" if words == "1" else "minutes"
    return f"{words} {unit}" + (f" ({minutes / 60:g} h)" if minutes >= 120 and minutes % 60 == 0 else "")


def _took(check: Check) -> str:
    if check.took_s is None:
        return ""
    return f"{check.took_s * 1e3:.1f} ms" if check.took_s < 1 else f"{check.took_s:.1f} s"


def _are_defaults(found: Diagnosis) -> bool:
    return found.cache == type(found.cache)() and found.retry == type(found.retry)()


def _version() -> str:
    try:
        return metadata.version("encrypted-sessions")
    except metadata.PackageNotFoundError:
        return "(not installed)"
