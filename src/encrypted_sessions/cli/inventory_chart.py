"""Rows over time, as bars in SVG: by key, expired ones pale, refused ones hatched in red, the ttl as a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .._support.durations import format_option
from ..maintenance.aggregation import PROVEN_TIMES
from ..maintenance.reports import InventoryReport
from .html import Element, element, joined
from .times import shown_time

__all__ = ["chart"]

_WIDTH, _HEIGHT = 1000, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 18, 34

#: So many keys have a shade of their own; further ones share one.
_SHADES = 6
_OTHERS = "other keys"
_REFUSED = "refused, or not opened"

#: What one bar is made of: the name in the legend, and whether it has expired.
_Part = tuple[str, bool]


def chart(report: InventoryReport) -> Element:
    """The chart, its legend, and what it shows in words."""
    if not report.ages:
        return element("p", "No row says when it was sealed.")
    names = _names(report)
    width_s = report.ages[0].end - report.ages[0].start
    starts = [bucket.start for bucket in report.ages]
    first, last = min(starts), max(bucket.end for bucket in report.ages)
    bars: dict[int, Counter[_Part]] = {}
    for bucket in report.ages:
        name = names[bucket.kid] if bucket.outcome in PROVEN_TIMES else _REFUSED
        bars.setdefault(bucket.start, Counter())[name, bucket.outcome == "expired"] += bucket.items
    most = max(sum(parts.values()) for parts in bars.values())
    scale = _Scale(first, last, most, width_s)
    order = [*dict.fromkeys(names.values()), _REFUSED]
    shapes, touched = _shapes(bars, order, scale)
    picture = element(
        "svg",
        _hatching(),
        *_grid(scale),
        *shapes,
        *touched,
        *_ttl_line(report, scale),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=_in_words(report, scale),
    )
    return joined([element("figure", picture, element("figcaption", _in_words(report, scale))), _legend(order, bars)])


class _Scale:
    def __init__(self, first: int, last: int, most: int, width_s: int) -> None:
        self.first, self.last, self.most, self.width_s = first, last, most, width_s

    def x(self, time: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (time - self.first) / (self.last - self.first), 1)

    def height(self, items: float) -> float:
        return round((_HEIGHT - _TOP - _BOTTOM) * items / self.most, 1)


def _names(report: InventoryReport) -> Mapping[str | None, str]:
    """What each kid is called: the ones with most rows by themselves."""
    rows: Counter[str | None] = Counter()
    for bucket in report.ages:
        if bucket.outcome in PROVEN_TIMES:
            rows[bucket.kid] += bucket.items
    common = [kid for kid, _ in rows.most_common(_SHADES)]
    return {kid: (kid or _OTHERS) if kid in common else _OTHERS for kid in sorted(rows, key=lambda kid: -rows[kid])}


def _shapes(
    bars: Mapping[int, Counter[_Part]], order: Sequence[str], scale: _Scale
) -> tuple[list[Element], list[Element]]:
    """One shape for each part, of all bars together; and over each bar one without colour that tells its numbers."""
    paths: dict[_Part, list[str]] = {}
    touched = []
    for start, parts in sorted(bars.items()):
        x = scale.x(start)
        wide = max(1.0, round(scale.x(start + scale.width_s) - x - 1, 1))
        y: float = _HEIGHT - _BOTTOM
        for part in ((name, expired) for name in order for expired in (True, False)):
            if parts[part]:
                high = max(scale.height(parts[part]), 1.0)  # few rows are seen beside many
                y = round(y - high, 1)
                paths.setdefault(part, []).append(f"M{x:g} {y:g}h{wide:g}v{high:g}h-{wide:g}z")
        total, expired = sum(parts.values()), sum(items for (_, is_over), items in parts.items() if is_over)
        refused = parts[_REFUSED, False]
        rows = "1 row" if total == 1 else f"{total:,} rows"
        told = f"{_span(start, scale)}: {rows}, {expired:,} of them expired, {refused:,} refused or not opened"
        touched.append(
            element(
                "rect", element("title", told), x=x, y=_TOP, width=wide, height=_HEIGHT - _TOP - _BOTTOM, class_="all"
            )
        )
    shapes = [
        element("path", d="".join(path), class_=f"bar {_shade(name, order)}{' expired' if expired else ''}")
        for (name, expired), path in paths.items()
    ]
    return shapes, touched


def _shade(name: str, order: Sequence[str]) -> str:
    return "refused" if name == _REFUSED else f"k{order.index(name)}"


def _span(start: int, scale: _Scale) -> str:
    day = shown_time(start)[:10]
    return day if scale.width_s == 86_400 else f"{day} to {shown_time(start + scale.width_s - 1)[:10]}"


def _grid(scale: _Scale) -> list[Element]:
    base = _HEIGHT - _BOTTOM
    lines = []
    for part in (0.5, 1.0):
        y = round(base - scale.height(scale.most * part), 1)
        lines.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        lines.append(element("text", f"{round(scale.most * part):,}", x=_LEFT - 6, y=y + 4, class_="rows"))
    lines.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base, class_="axis"))
    for time, anchor in ((scale.first, "start"), ((scale.first + scale.last) // 2, "middle"), (scale.last - 1, "end")):
        day = shown_time(time)[:10]
        lines.append(element("text", day, x=scale.x(time), y=base + 18, text_anchor=anchor, class_="days"))
    return lines


def _ttl_line(report: InventoryReport, scale: _Scale) -> list[Element]:
    if report.ttl is None:
        return []
    ends = report.started_at - report.ttl
    if not scale.first < ends < scale.last:
        return []
    x = scale.x(ends)
    is_right = x > _WIDTH / 2
    return [
        element("line", x1=x, x2=x, y1=_TOP - 8, y2=_HEIGHT - _BOTTOM, class_="ttl"),
        element(
            "text",
            f"older than {format_option(report.ttl)}: expired"
            if is_right
            else f"{format_option(report.ttl)} ago: the ttl",
            x=x - 6 if is_right else x + 6,
            y=_TOP - 2,
            text_anchor="end" if is_right else "start",
        ),
    ]


def _hatching() -> Element:
    line = element("path", d="M0 6 L6 0", class_="hatch")
    ground = element("rect", width=6, height=6, class_="hatched")
    pattern = element("pattern", ground, line, id="hatching", width=6, height=6, patternUnits="userSpaceOnUse")
    return element("defs", pattern)


def _in_words(report: InventoryReport, scale: _Scale) -> str:
    days = scale.width_s // 86_400
    each = "a day" if days == 1 else f"{days} days"
    until = shown_time(scale.last - 1)[:10]
    highest = "1 row" if scale.most == 1 else f"{scale.most:,} rows"
    words = f"From {shown_time(scale.first)[:10]} to {until} (UTC). Each bar is {each}; the highest is {highest}."
    if any(bucket.outcome == "expired" for bucket in report.ages):
        words += " Expired rows are pale, within an outline."
    if any(bucket.outcome not in PROVEN_TIMES for bucket in report.ages):
        words += " Hatched rows are shown at the time that they claim, or at the nearer end."
    return words


def _legend(order: Sequence[str], bars: Mapping[int, Counter[_Part]]) -> Element:
    totals: Counter[_Part] = Counter()
    for parts in bars.values():
        totals.update(parts)
    items = []
    for name in order:
        for expired in (False, True):
            if items_of := totals[name, expired]:
                shade = f"swatch {_shade(name, order)}{' expired' if expired else ''}"
                picture = element(
                    "svg",
                    element("rect", width=14, height=14, class_=shade.removeprefix("swatch ")),
                    width=14,
                    height=14,
                    aria_hidden="true",
                )
                items.append(element("li", picture, f" {name}{', expired' if expired else ''}: {items_of:,}"))
    return element("ul", *items, class_="legend")
