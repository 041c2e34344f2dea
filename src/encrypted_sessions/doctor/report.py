"""The findings of `doctor` as text and for JSON."""

from __future__ import annotations

import json
import sys
from importlib import metadata

from .._support.durations import STEPS, format_duration, format_minutes
from .._support.terminal import Style, escaped, styled, wrapped
from .age import age_in_words
from .diagnosis import Check, Diagnosis

__all__ = ["as_dict", "format_json", "format_text"]

_MARKS = {"ok": "ok", "failed": "FAILED", "not tried": "-"}
_STYLES: dict[str, Style] = {"ok": "good", "FAILED": "bad", "warning": "careful"}


def format_text(found: Diagnosis, *, is_first: bool = True) -> str:
    """One line for each check, what to do where one failed, and what the ring would do in an outage.

    Of several places the first one alone has what is the same for all: versions, and what happens in an outage.
    """
    lines = [f"encrypted-sessions {_version()}, Python {sys.version.split()[0]}", ""] if is_first else []
    for check in found.checks:
        lines += _marked(_MARKS[check.status], check.found, f"{check.name:<14} {_took(check):>9}  ")
        if check.advice is not None:
            lines += wrapped(escaped(f"To do: {check.advice}"), f"{'':<34}")
    for mark, texts in (("note", found.remarks), ("warning", found.warnings)):
        lines += [line for text in texts for line in _marked(mark, text)]
    lines += ["", f"The key's age: {_age(found)}.", *(_in_an_outage(found) if is_first else ()), ""]
    lines.append(styled(_verdict(found), "good" if found.ok else "bad"))
    return "\n".join(lines) + "\n"


def _in_an_outage(found: Diagnosis) -> list[str]:
    cache, retry = found.cache, found.retry
    asks_again_after = format_minutes(0.8 * cache.fresh_s)
    promises = (
        f"writes for {format_minutes(cache.stale_write_s)} after the last answer,",
        f"reads for {format_minutes(cache.stale_read_s)} after the last answer,",
        f"goes on for {format_minutes(cache.denied_grace_s)} when access is denied,",
        f"asks again in the background when its active key is {asks_again_after} old; nobody waits for it.",
    )
    return [
        "",
        *wrapped(
            "In an outage, a process that holds its keys, with a ring of these numbers"
            + (" (the defaults):" if _are_defaults(found) else ":")
        ),
        *(line for promise in promises for line in wrapped(promise, "  ")),
        *wrapped(f"A process that has no key yet fails within {retry.deadline_s:g} s, with an error that says so."),
    ]


def as_dict(found: Diagnosis) -> dict[str, object]:
    """The same for programs. Times are in seconds, except where the name says minutes."""
    cache, retry = found.cache, found.retry
    return {
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
    }


def format_json(found: Diagnosis) -> str:
    """The same as JSON."""
    return json.dumps(as_dict(found), indent=2)


def _marked(mark: str, text: str, name: str = "") -> list[str]:
    lines = wrapped(escaped(text), f"{mark:<7} {name}")
    lines[0] = styled(mark, _STYLES.get(mark)) + lines[0].removeprefix(mark)
    return lines


def _verdict(found: Diagnosis) -> str:
    if found.ok:
        return "All is well."
    failed = [check.name for check in found.checks if check.status == "failed"]
    return f"Not well: {', '.join(failed)}."


def _age(found: Diagnosis) -> str:
    if found.kid is None:
        return "not known, since no key came"
    if found.key_age_s is None or found.key_created_at is None:
        return "not known, since its place does not say"
    return f"{age_in_words(found.key_age_s)} (made {found.key_created_at:%Y-%m-%d %H:%M} UTC)"


def _took(check: Check) -> str:
    return "" if check.took_s is None else format_duration(check.took_s, STEPS)


def _are_defaults(found: Diagnosis) -> bool:
    return found.cache == type(found.cache)() and found.retry == type(found.retry)()


def _version() -> str:
    try:
        return metadata.version("encrypted-sessions")
    except metadata.PackageNotFoundError:
        return "(not installed)"
