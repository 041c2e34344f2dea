"""An inventory as one page: no script, no request, in light and dark, on screen and on paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone

from .._support.durations import RUNS, format_duration, format_option
from ..maintenance.reports import InventoryReport, KeyUse
from .html import Element, element, joined
from .inventory_chart import chart
from .inventory_style import style_of
from .reports import MEANS, TO_DO, rows_of, size_of
from .times import shown_time

__all__ = ["inventory_page"]

#: What is not broken within a line: options, and the public ids of keys.
_WHOLE = re.compile(r"((?<!\S)--[a-z][a-z-]*|[A-Za-z0-9._-]{1,119}~[0-9a-f]{8})")

#: Outcomes that need nobody.
_IN_ORDER = ("ok", "expired")

#: So many keys are foreseen one by one.
_MOST_FORESEEN = 20

#: What may be elsewhere, and is not in any count.
_NOT_COUNTED = (
    "Backups and dumps of this store: they need the keys of the rows in them.",
    "Other stores, and other tables of this one.",
    "Files that discard, erase and purge have written (--export).",
    "Rows that were added, changed or removed after the run had begun.",
)

#: The heads of each table, by its class.
_TABLES = {
    "keys": ("key", "state", "rows that need it", "not opened", "expired rows", "free from (UTC)", "next"),
    "outcomes": ("outcome", "rows", "what it means", "what to do"),
}

#: The commands of what comes next.
_STEPS = {
    "purge": "encrypted-sessions purge STORE --keys URL --ttl {ttl} --kid KEY",
    "reencrypt": "encrypted-sessions reencrypt STORE --keys URL --kid KEY",
    "retire": "encrypted-sessions keys retire URL NAME",
    "destroy": "encrypted-sessions keys destroy URL NAME --store STORE",
}


def inventory_page(report: InventoryReport, version: str) -> str:
    """The page's text."""
    body = joined(
        [
            _head(report, version),
            element("main", *_sections(report)),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"{element('title', f'Inventory of {report.store}')}\n<style>{style_of(_TABLES)}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _head(report: InventoryReport, version: str) -> Element:
    about = f"{shown_time(report.started_at)} UTC, in {format_duration(report.took_s, RUNS)}"
    only = None if report.only is None else element("p", f"Only {report.only}.", class_="limited")
    return element(
        "header",
        element("p", "Inventory", class_="kind"),
        element("h1", report.store),
        element("p", f"{about}, by encrypted-sessions {version}"),
        only,
    )


def _sections(report: InventoryReport) -> list[Element]:
    return [
        element("section", _verdict(report), _tiles(report), _conclusion(report), class_="verdict"),
        _section("Rows by the day they were sealed", chart(report)),
        _section("Keys, and what still needs them", _keys(report)),
        _section("When keys can go", _forecast(report)),
        _section("What the rows are", _outcomes(report)),
        _section("What is not counted", _not_counted(report)),
    ]


def _section(title: str, *content: Element) -> Element:
    return element("section", element("h2", title), *content)


# -- The verdict ------------------------------------------------------------------------------------


def _verdict(report: InventoryReport) -> Element:
    need_person = _need_person(report)
    if report.stopped is not None:
        mood, text = "bad", f"The run did not finish: {(report.stopped_because or report.stopped).rstrip('.')}."
    elif not report.proven:
        mood, text = "open", "Only labels were counted, which prove nothing: no row was opened."
    elif need_person or not report.ok:
        needs = f"{rows_of(need_person)} need{'s' if need_person == 1 else ''} a person" if need_person else "see below"
        mood, text = "bad", f"Not all is well: {needs}."
    else:
        free = len(report.free)
        can_go = f"{free} key{'' if free == 1 else 's'} can go" if free else "no key can go yet"
        mood, text = "good", f"Every row is in order, and {can_go}."
    return element("p", text, class_=f"sentence {mood}")


def _conclusion(report: InventoryReport) -> Element:
    sentences = [*report.sentences, *(f"Note: {notice}" for notice in report.notices)]
    return element("ul", *(element("li", _unbroken(f"{sentence.rstrip('.')}.")) for sentence in sentences))


def _tiles(report: InventoryReport) -> Element:
    found = report.found
    tiles = [
        ("rows", f"{report.seen:,}", size_of(sum(group.size for group in report.groups)), ""),
        ("in time", f"{found.get('ok', 0):,}", "authentic, not expired", ""),
        ("expired", f"{found.get('expired', 0):,}", _ttl_of(report), ""),
        ("need a person", f"{_need_person(report):,}", "see what the rows are", "bad" if _need_person(report) else ""),
        ("keys that can go", f"{len(report.free):,}", f"of {len(report.keys):,}", ""),
    ]
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", name),
                element("dd", number),
                element("dd", note, class_="note"),
                class_=mood or None,
            )
            for name, number, note, mood in tiles
        ),
        class_="tiles",
    )


def _ttl_of(report: InventoryReport) -> str:
    return "no ttl was given" if report.ttl is None else f"older than {format_option(report.ttl)}"


def _need_person(report: InventoryReport) -> int:
    return sum(count for outcome, count in report.found.items() if outcome not in (*_IN_ORDER, "not_opened"))


# -- Keys -------------------------------------------------------------------------------------------


def _keys(report: InventoryReport) -> Element:
    if not report.keys:
        return element("p", "There is no key at hand, and no row names one.")
    rows = []
    for use in report.keys:
        state, next_step = _state_of(use, report)
        free_from = "-" if use.active else shown_time(use.free_from)
        cells = [f"{use.needed_by:,}", f"{use.unproven:,}", f"{use.expired:,}", free_from]
        rows.append(
            element(
                "tr",
                element("th", element("code", use.kid), scope="row"),
                element("td", state),
                *(element("td", cell) for cell in cells),
                element("td", _unbroken(next_step)),
            )
        )
    ttl = "TIME" if report.ttl is None else format_option(report.ttl)
    wanted = " ".join(_state_of(use, report)[1] for use in report.keys)
    how = [
        element("li", f"{step}: ", element("code", _unbroken(command.format(ttl=ttl))))
        for step, command in _STEPS.items()
        if step in wanted
    ]
    return joined([_table(rows, class_="keys"), element("ul", *how) if how else None])


def _state_of(use: KeyUse, report: InventoryReport) -> tuple[str, str]:
    """What a key is, and what comes next."""
    if use.active:
        return "active", "purge" if use.expired else "nothing"
    if use.needed_by:
        return "needed", "purge, then wait or reencrypt" if use.expired else "wait, or reencrypt"
    if use.unproven:
        return "not at hand", "add its place to --keys"
    if use.expired:
        return "expired rows only", "purge, then free"
    if use.kid in report.free:
        return "free", "retire, later destroy"
    return "no row is known to need it", "see what is in doubt"


def _forecast(report: InventoryReport) -> Element:
    if report.ttl is None:
        return element("p", "Without --ttl nothing expires, so only reencrypt frees a key.")
    later = sorted((use.free_from, use.kid, use.needed_by) for use in report.keys if use.free_from and not use.active)
    if not later:
        return element("p", "No key is waiting for rows to expire.")
    items = [
        element(
            "li",
            element("time", f"{shown_time(at)} UTC", datetime=_machine_time(at)),
            ": ",
            _unbroken(kid),
            f", when {'its one row has' if count == 1 else f'the last of its {rows_of(count)} has'} expired",
        )
        for at, kid, count in later[:_MOST_FORESEEN]
    ]
    if more := len(later) - len(items):
        items.append(element("li", f"{more} more, the last of them at {shown_time(later[-1][0])} UTC"))
    sure = "Provided that no process writes under them any more, and that no session has a longer ttl:"
    return joined([element("p", sure), element("ul", *items)])


def _machine_time(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return None


# -- Rows -------------------------------------------------------------------------------------------


def _outcomes(report: InventoryReport) -> Element:
    rows = [
        element(
            "tr",
            element("th", element("code", outcome), scope="row"),
            element("td", f"{count:,}"),
            element("td", MEANS.get(outcome, "")),
            element("td", _unbroken(_to_do(outcome))),
            class_=None if outcome in (*_IN_ORDER, "not_opened") else "bad",
        )
        for outcome, count in sorted(report.found.items(), key=lambda one: -one[1])
        if count
    ]
    if not rows:
        return element("p", "There are no rows.")
    more = None
    if report.findings:
        more = element("p", "The command itself prints which rows these are, up to 20 of them.", class_="quiet")
    return joined([_table(rows, class_="outcomes"), more])


def _to_do(outcome: str) -> str:
    if outcome in (*_IN_ORDER, "not_opened"):
        return "purge removes them" if outcome == "expired" else "nothing"
    return TO_DO.get(outcome, "").replace("look at the rows below", "look at the rows")


def _unbroken(text: str) -> Element:
    """A sentence in which a browser breaks no option and no key id into two, if there is room."""
    parts = _WHOLE.split(text)
    return joined(element("span", part, class_="whole") if at % 2 else part for at, part in enumerate(parts))


def _not_counted(report: InventoryReport) -> Element:
    items = [
        f"{replica.name}: {'up to date' if replica.replayed else f'may have an older state. {replica.to_do}'}."
        for replica in report.replicas
    ]
    if report.replicas_unseen is not None:
        items.append(f"{report.replicas_unseen.rstrip('.')}.")
    if report.other_keys:
        items.append(
            f"{rows_of(sum(report.other_keys.values()))} of other keys, since the run was limited to some keys."
        )
    return element("ul", *(element("li", one) for one in (*items, *_NOT_COUNTED)))


def _table(rows: Sequence[Element], *, class_: str) -> Element:
    head = element("thead", element("tr", *(element("th", one, scope="col") for one in _TABLES[class_])))
    return element("div", element("table", head, element("tbody", *rows), class_=class_), class_="wide")
