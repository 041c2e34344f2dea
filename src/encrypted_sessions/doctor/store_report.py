"""The findings of `doctor --store` as text and for JSON."""

from __future__ import annotations

from .._support.terminal import escaped, table, wrapped
from .store import StoreDiagnosis

__all__ = ["as_dict", "format_text"]


def format_text(found: StoreDiagnosis) -> str:
    """A line for each label, and what follows from them."""
    rows = "1 row" if found.rows == 1 else f"{found.rows:,} rows"
    lines = wrapped(escaped(f"The store is {found.place}: {rows}."))
    if found.checks:
        cells = [
            ("ok" if check.ok else "FAILED", check.kid or "-", f"{check.rows:,}", check.words) for check in found.checks
        ]
        lines += ["", *table(("", "key", "rows", ""), cells, right=(2,), prose=True)]
    said = [] if found.problem is None else [f"Not everything could be checked: {found.problem}."]
    said.append(
        "By the labels of the rows, a process with these keys can read all that is there."
        if found.ok
        else "A process with these keys cannot read all that is there."
    )
    said += [f"Note: {notice}." for notice in found.notices]
    said.append("Labels are not proof; `encrypted-sessions verify` opens every row.")
    return "\n".join([*lines, "", *(line for sentence in said for line in wrapped(escaped(sentence)))])


def as_dict(found: StoreDiagnosis) -> dict[str, object]:
    """The same for programs."""
    checks = [{**check._asdict(), "ok": check.ok} for check in found.checks]
    return {
        "ok": found.ok,
        "place": found.place,
        "rows": found.rows,
        "checks": checks,
        "problem": found.problem,
        "notices": list(found.notices),
    }
