"""What a run over a whole store found and did, in words and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .._support.durations import RUNS, format_clock, format_duration
from .._support.terminal import Style, escaped, printable, styled, table, wrapped
from ..maintenance._inspect import Inspected
from ..maintenance.kid_filter import rows_by_kid
from ..maintenance.reports import (
    LEFT,
    DiscardReport,
    EncryptReport,
    EraseReport,
    Group,
    InventoryReport,
    KeyUse,
    PurgeReport,
    PutBackReport,
    ReencryptReport,
    ReplicaState,
    Report,
    VerifyReport,
)
from .exit_codes import FAILED
from .times import rfc_3339, shown_time

__all__ = [
    "MEANS",
    "TO_DO",
    "format_inspected_json",
    "format_inspected_text",
    "format_json",
    "format_text",
    "rows_of",
    "size_of",
]

#: What is explained beside its name; a longer name has a line of its own.
_LONGEST_NAME = 20

#: The parts of an inventory that have times, and which.
_TIMES = {"ages": ("start", "end"), "groups": ("oldest", "newest"), "keys": ("newest", "free_from")}

#: The characters of a time that are its day.
_DAY = len("2026-12-01")

#: So many sessions are named in a sentence.
_MOST_NAMED = 20

#: What each outcome means to whoever runs a command.
MEANS: Mapping[str, str] = {
    "ok": "authentic and in time",
    "expired": "authentic, and older than the ttl, or past the end that its writer set",
    "expired_unverified": "their key is gone, and by their own account they have expired",
    "erased": "their key was destroyed for good",
    "not_yet_valid": "authentic, and stamped more than 60 s in the future",
    "key_disabled": "their key is disabled, and may come back",
    "unknown_key": "none of the places that were asked has their key",
    "unauthentic": "altered, or sealed with another key or for another session; of suite 2, or of another realm",
    "late_key": "stamped more than 60 s after their key had stopped writing",
    "plaintext": "not encrypted",
    "malformed": "damaged, or written by something else",
    "too_large": "larger than --max-row-bytes, so they were not looked into",
    "unsupported": "written by a later release",
    "not_opened": "there was no reason to open them, or no key at hand",
}

#: What a command does to rows, where it does not remove them.
_DOES: Mapping[type[Report], tuple[str, str]] = {
    EncryptReport: ("sealed", "seal"),
    ReencryptReport: ("sealed", "seal"),
    PutBackReport: ("put back", "put back"),
}

#: What a run left that is not rows: for one session, and for several.
_OF_SESSIONS: Mapping[str, tuple[str, str]] = {
    "sessions_missing": ("that was named is not there", "that were named are not there"),
    "sessions_refused": ("could not be erased", "could not be erased"),
}

#: What to do about rows that were left.
TO_DO: Mapping[str, str] = {
    "expired_unverified": "bring the key back, or: discard --outcome expired_unverified --ttl TIME",
    "erased": "nobody can read them any more: discard --outcome erased removes them, and keeps a copy",
    "not_yet_valid": (
        "compare the clocks (NTP), then run it again; if they agree,"
        " discard --outcome not_yet_valid removes them, and keeps a copy"
    ),
    "key_disabled": "enable the key at its place; or destroy it for good, then: discard --outcome erased",
    "unknown_key": (
        "add the old key, or its place, to --keys; rows of the SDK's class (hkdf-v1) need --upstream-key; if the key is"
        " lost: discard --outcome unknown_key --kid KID"
    ),
    "unauthentic": (
        "look at the rows below; for suite 2, give every --realm; discard --outcome unauthentic removes them, and"
        " keeps a copy"
    ),
    "late_key": "find out who still writes under that key; discard --outcome late_key removes them, and keeps a copy",
    "plaintext": "encrypt seals them; discard --outcome plaintext removes them, and keeps a copy",
    "malformed": "look at the rows below; discard --outcome malformed removes them, and keeps a copy",
    "too_large": "run it again with a larger --max-row-bytes, on a machine with enough memory",
    "unsupported": "upgrade encrypted-sessions, then run it again",
    "key_not_asked": "remove such rows, or run it again: each run spends 10 s on such keys",
}


def format_text(command: str, report: Report) -> str:
    """A table of what was found, changed and left, what to do about it, and a verdict."""
    dry = " (dry run)" if report.dry_run else ""
    only = "" if report.only is None else f", {printable(report.only)}"
    head = wrapped(f"{command} of {printable(report.store)}{only}{dry}, {format_duration(report.took_s, RUNS)}")
    lines = [*(styled(line, "head") for line in head), ""]
    if isinstance(report, InventoryReport):
        lines += _inventory(report)
    else:
        lines += _counts(report)
    if isinstance(report, VerifyReport) and report.erased:
        lines += _erased(report)
    if report.findings and any(report.left.values()):
        heads = ("session", "row", "outcome", "kid")
        found = [
            (printable(one.session_id), printable(one.row_id), one.outcome, one.kid or "-") for one in report.findings
        ]
        lines += ["", "Rows to look at" + (" (the first ones):" if len(found) < sum(report.left.values()) else ":")]
        lines += table(heads, found)
    notes = [f"Note: {notice.rstrip('.')}." for notice in report.notices]
    if report.other_keys:
        notes.append(
            f"Not looked into: {rows_of(sum(report.other_keys.values()))} of other keys"
            f" ({rows_by_kid(report.other_keys)})."
        )
    notes += [f"Not gone yet: {what.rstrip('.')}." for what in report.incomplete]
    notes += _replicas(report)
    if isinstance(report, EraseReport) and report.export is not None:
        notes.append(
            f"A copy remains: the rows that were erased are in {report.export}. Delete it as soon as it is not needed."
        )
    if report.stopped_because is not None:
        notes.append(f"Stopped: {report.stopped_because.rstrip('.')}.")
    for note in notes:
        lines += ["", *_noted(escaped(note))]
    style = _style(report)
    return "\n".join([*lines, "", *(styled(line, style) for line in wrapped(escaped(_verdict(report))))]) + "\n"


def format_json(command: str, report: Report, exit_code: int) -> str:
    """The same for programs: one line. Times are as RFC 3339 has them, in UTC."""
    line: dict[str, Any] = {"event": "report", "command": command, "ok": report.ok, "exit_code": exit_code}
    line |= dataclasses.asdict(report)
    line["started_at"] = rfc_3339(report.started_at)
    for name, times in _TIMES.items():
        for one in line.get(name, ()):
            one |= {time: rfc_3339(one[time]) for time in times}
    return json.dumps(line)


def _replicas(report: Report) -> list[str]:
    """Which replicas have what the store has, which have not, and which could not be seen."""
    same = [replica.name for replica in report.replicas if replica.replayed]
    notes = [f"Replicas that are up to date: {', '.join(same)}."] if same else []
    notes += [f"Behind: {_behind(replica)}" for replica in report.replicas_behind]
    return notes + ([f"Note: {report.replicas_unseen.rstrip('.')}."] if report.replicas_unseen is not None else [])


def _behind(replica: ReplicaState) -> str:
    lacks = "may have an older state"
    if replica.missing is not None:
        lacks = f"has an older state ({size_of(replica.missing)} of the log is missing there)"
    return f"{replica.name} {lacks}. {replica.to_do}."


# -- Found, changed, left ---------------------------------------------------------------------------


def _counts(report: Report) -> list[str]:
    rows: list[tuple[str, int, str, str]] = []
    order = list(MEANS)
    for outcome, count in sorted(
        report.found.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else 99
    ):
        rows.append(("found", count, outcome, _means(outcome, report)))
    rows += _changed(report)
    if isinstance(report, ReencryptReport):
        rows += _suites(report)
    for reason, count in sorted(report.left.items()):
        if count:
            rows.append(("left", count, reason, _why(reason)))
    if not rows:
        return ["No row was seen." if report.stopped else "There are no rows."]
    numbers = max(len(f"{count:,}") for _, count, _, _ in rows)
    names = max([len(name) for _, _, name, _ in rows if len(name) <= _LONGEST_NAME], default=0)
    lines, last = [], ""
    for part, count, name, why in rows:
        head = f"{part if part != last else '':<9}{count:>{numbers},}  {name:<{names}}  "
        below = " " * (numbers + names + 13)
        found = wrapped(why, head) if len(head) == len(below) else [head.rstrip(), *wrapped(why, below)]
        if part == "left":
            found[0] = found[0].replace("left", styled("left", "careful"), 1)
        lines += found
        last = part
    return lines


def _means(outcome: str, report: Report) -> str:
    if outcome == "not_opened" and isinstance(report, ReencryptReport) and report.already:
        return f"their label says that they need nothing ({report.already:,} name the active key)"
    if outcome == "not_opened" and isinstance(report, (ReencryptReport, EncryptReport)):
        return "their label says that this command has nothing to do with them"
    return MEANS.get(outcome, "")


def _changed(report: Report) -> list[tuple[str, int, str, str]]:
    would = "would be " if report.dry_run else ""
    if isinstance(report, EraseReport):
        return [("changed", count, what, f"{would}erased") for what, count in report.erased.items()]
    if isinstance(report, EncryptReport):
        under = f"would be sealed under {report.to_kid}" if report.dry_run else f"sealed under {report.to_kid} now"
        sealed = ("changed", report.plaintext, "plaintext", f"{under}: they count as authentic, whoever wrote them")
        upstream = ("changed", report.upstream, "hkdf-v1", f"of the SDK's class, {under}")
        return [sealed, upstream] if report.upstream else [sealed]
    if isinstance(report, ReencryptReport):
        kept = "with the time and the place that they had"
        if report.dry_run or len(report.moved) > 1:
            under = f"{would}sealed again under {report.to_kid}, {kept}"
            return [("changed", count, kid, under) for kid, count in sorted(report.moved.items())]
        return [("changed", report.changed, "sealed again", f"under {report.to_kid}, {kept}")]
    if isinstance(report, PurgeReport):
        return [("changed", report.changed, "expired", f"{would}removed{_copy(report.export)}")]
    if isinstance(report, DiscardReport):
        return [("changed", report.changed, report.outcome, f"{would}removed{_copy(report.export)}")]
    if isinstance(report, PutBackReport):
        put = ("changed", report.changed, "put back", f"{would}in the place and with the time that they had")
        there = ("there", report.already, "already", "were in their places, with the same bytes")
        return [put, there] if report.already else [put]
    return []


def _suites(report: ReencryptReport) -> list[tuple[str, int, str, str]]:
    """The rows that were sealed again by their suites, where they changed it or there are several."""
    if report.suite is None and len(report.suites) < 2:
        return []
    now = "would be" if report.dry_run else "now"
    return [
        ("by suite", count, f"suite {suite}", f"{now} of suite {suite if report.suite is None else report.suite}")
        for suite, count in sorted(report.suites.items())
    ]


def _copy(export: str | None) -> str:
    return "" if export is None else f"; a copy is in {printable(export)}"


def _why(reason: str) -> str:
    # An outcome was explained where it was found.
    means, to_do = LEFT.get(reason), TO_DO.get(reason)
    return "; to do: ".join(part for part in (means, to_do) if part)


def _verdict(report: Report) -> str:
    if isinstance(report, InventoryReport):
        # What follows a server names itself.
        return printable(" ".join([report.conclusion, *_free(report)]))
    if isinstance(report, EraseReport):
        return " ".join([_result(report), *_after_erasing(report)])
    return _result(report)


def _after_erasing(report: EraseReport) -> list[str]:
    sentences = []
    if report.missing:
        more = len(report.missing) - _MOST_NAMED
        named = ", ".join(map(printable, report.missing[:_MOST_NAMED])) + (" and more" if more > 0 else "")
        sentences.append(f"No trace was found of these sessions: {named}.")
    if report.sessions and not report.dry_run:
        sentences.append(f"Not reached by this command, and yours to take care of: {'; '.join(report.not_reached)}.")
    return sentences


def _result(report: Report) -> str:
    if report.dry_run:
        done, to_do = _DOES.get(type(report), ("removed", "remove"))
        would = f"With --yes {rows_of(report.changed)} would be." if report.changed else f"There is nothing to {to_do}."
        if isinstance(report, EraseReport) and report.changed:
            sessions = f"{report.sessions:,} session{'' if report.sessions == 1 else 's'}"
            would = f"With --yes --expect {report.named}, {rows_of(report.changed)} of {sessions} would be."
        return f"Dry run: nothing was {done}. {would}" + ("" if _is_well(report) else f" {_not_well(report)}")
    if report.ok:
        rows = "every row of these keys" if report.kids else "every row"
        return f"All is well: {rows} is in order." if isinstance(report, VerifyReport) else "All is well."
    return _not_well(report)


def _is_well(report: Report) -> bool:
    """Whether nothing was left but what a dry run leaves."""
    return dataclasses.replace(report, dry_run=False).ok


def _not_well(report: Report) -> str:
    rows = {reason: count for reason, count in report.left.items() if count and reason not in _OF_SESSIONS}
    left = ", ".join(f"{count:,} {reason}" for reason, count in rows.items())
    reasons = [f"{rows_of(sum(rows.values()))} left ({left})"] if left else []
    for reason, words in _OF_SESSIONS.items():
        if count := report.left.get(reason):
            reasons.append(f"{count:,} session{'' if count == 1 else 's'} {words[count != 1]}")
    reasons += ["the run did not finish"] if report.stopped is not None else []
    reasons += ["not everything is gone yet"] if report.incomplete else []
    behind = len(report.replicas_behind)
    reasons += [f"{behind} replica{' has' if behind == 1 else 's have'} an older state"] if behind else []
    return f"Not well: {'; '.join(reasons)}."


def _erased(report: VerifyReport) -> list[str]:
    """The rows of destroyed keys, as far as they say something of themselves."""
    heads = ("destroyed key", "suite", "rows", "sessions", "oldest (UTC)", "newest (UTC)")
    cells = [(*_group(group)[:2], *_group(group)[3:7]) for group in report.erased]
    said = (
        "This is what these rows claim: nobody can check them any more. See whether their number and times are as you"
        " expect."
    )
    return ["", *table(heads, cells, right=(2, 3)), *wrapped(said)]


# -- Inventory --------------------------------------------------------------------------------------


def _inventory(report: InventoryReport) -> list[str]:
    if not report.groups:
        return ["There are no rows."]
    lines = _groups(report.groups)
    rows = sum(group.items for group in report.groups)
    by_suite = "".join(f" Of suite {suite}: {rows_of(count)}." for suite, count in sorted(report.suites.items()))
    lines += ["", f"{rows_of(rows)}, {size_of(sum(group.size for group in report.groups))}.{by_suite}"]
    if report.keys:
        lines += ["", *_keys(report.keys, report.free)]
    return lines


def _groups(groups: Sequence[Group]) -> list[str]:
    """A line for each group. In a narrow terminal times are days, and a version that all have stands below alone."""
    heads = ("kid", "version", "outcome", "rows", "sessions", "oldest (UTC)", "newest (UTC)", "size")
    cells = [_group(group) for group in groups]
    lines = table(heads, cells, right=(3, 4, 7))
    if len(lines) == len(cells) + 1:
        return lines
    first = 1 if len({group.version for group in groups} - {None}) > 1 else 2
    shorter = (heads[0], *heads[first:5], "oldest", "newest", "size")
    cells = [(cell[0], *cell[first:5], cell[5][:_DAY], cell[6][:_DAY], cell[7]) for cell in cells]
    return table(shorter, cells, right=(4 - first, 5 - first, 8 - first))


def _keys(keys: Sequence[KeyUse], free_now: Sequence[str]) -> list[str]:
    """A line for each key, in a narrow terminal with the day for the time of the newest row."""
    heads = ("key", "needed by rows", "not opened", "newest (UTC)", "free from (UTC)")
    cells = [_key(use, free_now) for use in keys]
    lines = table(heads, cells, right=(1, 2))
    if len(lines) == len(cells) + 1:
        return lines
    heads = ("key", "needed by", "not opened", "newest", "free from (UTC)")
    return table(heads, [(*cell[:3], cell[3][:_DAY], cell[4]) for cell in cells], right=(1, 2))


def _group(group: Group) -> tuple[str, ...]:
    return (
        group.kid or "-",
        "-" if group.version is None else str(group.version),
        group.outcome,
        f"{group.items:,}",
        f"{'' if group.sessions_exact else '~'}{group.sessions:,}",
        shown_time(group.oldest),
        shown_time(group.newest),
        size_of(group.size),
    )


def _key(use: KeyUse, free_now: Sequence[str]) -> tuple[str, ...]:
    free = shown_time(use.free_from) if use.needed_by else "now" if use.kid in free_now else "-"
    name = f"{use.kid} (active)" if use.active else use.kid
    return name, f"{use.needed_by:,}", f"{use.unproven:,}", shown_time(use.newest), free


def _free(report: InventoryReport) -> list[str]:
    """Of each key that was to be free whether it is, in sentences."""
    free = [kid for kid in report.required_free if kid not in report.not_free]
    said = [f"Not free: {kid}, for {why.rstrip('.')}." for kid, why in report.not_free.items()]
    return said + ([f"Free, as required: {', '.join(free)}."] if free else [])


# -- One session ------------------------------------------------------------------------------------


def format_inspected_text(place: str, session_id: str, rows: Sequence[Inspected], meant: str = "") -> str:
    """The envelopes of one session, the oldest first; where there are none, what may have been meant."""
    heads: tuple[str, ...] = ("row", "form", "kid", "sealed (UTC)", "age", "size")
    cells: list[tuple[str, ...]] = [
        (printable(row.row_id), row.form, row.kid or "-", shown_time(row.timestamp), _age(row.age_s), f"{row.size:,}")
        for row in rows
    ]
    if any(row.expires is not None for row in rows):
        heads = (*heads, "expires (UTC)")
        cells = [(*cell, shown_time(row.expires)) for cell, row in zip(cells, rows, strict=True)]
    if not rows:
        return (
            "\n".join(wrapped(f"{printable(place)} has no rows of the session {printable(session_id)}.{meant}")) + "\n"
        )
    size = size_of(sum(row.size for row in rows))
    head = f"session {printable(session_id)} of {printable(place)}: {rows_of(len(rows))}, {size}"
    said = "Key ids and ages are what the rows claim: no row was opened."
    return "\n".join([*wrapped(head), "", *table(heads, cells, right=(4, 5)), "", *wrapped(said)]) + "\n"


def format_inspected_json(place: str, session_id: str, rows: Sequence[Inspected]) -> str:
    """The same for programs, in one line."""
    exit_code = 0 if rows else FAILED
    line = {"event": "report", "command": "inspect", "ok": bool(rows), "exit_code": exit_code, "store": place}
    found = [row._asdict() | {"timestamp": rfc_3339(row.timestamp)} for row in rows]
    return json.dumps({**line, "session_id": session_id, "rows": found})


# -- Words ------------------------------------------------------------------------------------------


def size_of(size: int) -> str:
    """Bytes in a unit that reads well."""
    if size < 1_000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1_000
        if amount < 1_000:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1_000:.1f} TB"


def rows_of(count: int) -> str:
    """A count of rows in words."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def _noted(note: str) -> list[str]:
    """A note, whose first word says how much it matters."""
    kind, _, _ = note.partition(":")
    lines = wrapped(note)
    lines[0] = lines[0].replace(kind, styled(kind, "careful"), 1)
    return lines


def _style(report: Report) -> Style | None:
    """What a verdict looks like where there are colours. That of an inventory is too long to be all in one."""
    if isinstance(report, InventoryReport):
        return None
    if report.ok and not report.dry_run:
        return "good"
    return "careful" if _is_well(report) else "bad"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = abs(int(seconds))
    words = f"{whole // 86_400:,} d" if whole >= 2 * 86_400 else format_clock(whole, hours=True)
    return words if seconds >= 0 else f"-{words}"
