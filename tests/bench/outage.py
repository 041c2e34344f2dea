"""Measures an outage of the key server, with the default numbers of a ring, and draws it.

    python tests/bench/outage.py measure    (18 minutes: writes docs/key-server-outage.json)
    python tests/bench/outage.py draw       (from that, docs/key-server-outage.svg)

The first part is real: a key server that is another process is stopped, then killed, then started
again, while a session is written and read once a second. The second part is the 24 hours: the same
ring and another outage, with a clock that is set forward step by step.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "support"))

from encrypted_sessions import EncryptedSession, KeyProviderError, KeyRing
from encrypted_sessions_tests.outage_demo.server import KeyServer
from keyproviders import CachePolicy, KeyEvent

DOCS = Path(__file__).resolve().parents[2] / "docs"
DATA = DOCS / "key-server-outage.json"
PICTURE = DOCS / "key-server-outage.svg"

#: What happens to the server, in seconds after the first key came.
STOPPED_S, KILLED_S, STARTED_S, END_S = 60.0, 360.0, 1020.0, 1080.0
EVERY_S = 1.0


class ListSession:
    """A session in memory: what is measured is the ring, not a disk."""

    session_settings = None

    def __init__(self) -> None:
        self.session_id = "measured"
        self.items: list[Any] = []

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return self.items if limit is None else self.items[len(self.items) - min(limit, len(self.items)) :]

    async def add_items(self, items: list[Any]) -> None:
        self.items.extend(items)

    async def pop_item(self) -> Any:
        return self.items.pop() if self.items else None

    async def clear_session(self) -> None:
        self.items.clear()


async def timed(do: Callable[[], Any], began: float) -> dict[str, Any]:
    """When it began and how long it took, in seconds, and the error, if it failed."""
    at = time.monotonic()
    try:
        await do()
        error = None
    except KeyProviderError as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"at_s": round(at - began, 3), "took_s": round(time.monotonic() - at, 6), "error": error}


class Real:
    """The outage of some minutes, in real time."""

    def __init__(self, server: KeyServer) -> None:
        self.acts: list[tuple[float, str, Callable[[], None]]] = [
            (STOPPED_S, "SIGSTOP", server.stop),
            (KILLED_S, "SIGKILL", server.kill),
            (STARTED_S, "started", server.start),
        ]
        self.seen: dict[str, Any] = {name: [] for name in ("acts", "events", "writes", "reads", "changes")}
        self.ring = KeyRing(server.provider(), on_event=self.note)
        self.session = EncryptedSession.wrap(ListSession(), self.ring, ttl=86_400)
        self.began = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self.began

    def note(self, event: KeyEvent) -> None:
        self.seen["events"].append({"at_s": round(self.now(), 3), "what": event.what})

    async def run(self) -> dict[str, Any]:
        await asyncio.gather(
            self.every_second("writes", self.write),
            self.every_second("reads", lambda: self.session.get_items(limit=10)),
            self.act(),
            self.watch(),
        )
        self.seen["calls"] = self.ring.health().counts["calls"]
        await self.ring.aclose()
        return self.seen

    async def write(self) -> None:
        item: Any = {"role": "user", "content": f"at {self.now():.0f} s"}
        await self.session.add_items([item])

    async def every_second(self, name: str, do: Callable[[], Any]) -> None:
        while self.now() < END_S:
            done = await timed(do, self.began)
            self.seen[name].append(done)
            await asyncio.sleep(max(0.0, done["at_s"] + EVERY_S - self.now()))

    async def act(self) -> None:
        for at, name, act in self.acts:
            await asyncio.sleep(at - self.now())
            await asyncio.to_thread(act)
            self.seen["acts"].append({"at_s": round(self.now(), 3), "what": name})

    async def watch(self) -> None:
        """When writing becomes possible, and when it ends: twenty looks a second."""
        could: bool | None = None
        while self.now() < END_S:
            health = self.ring.health()
            if health.can_write is not could:
                could, age_s = health.can_write, health.last_healthy_s
                age_s = None if age_s is None else round(age_s, 3)
                self.seen["changes"].append({"at_s": round(self.now(), 3), "can_write": could, "last_healthy_s": age_s})
            await asyncio.sleep(0.05)


async def real_part() -> dict[str, Any]:
    """The outage of some minutes, in real time."""
    with KeyServer() as server:
        return await Real(server).run()


async def accelerated_part() -> dict[str, Any]:
    """The 24 hours, with a clock that is set forward: what a ring does depends on nothing else."""
    ahead = 0.0
    with KeyServer() as server:
        ring = KeyRing(server.provider(), clock=lambda: time.monotonic() + ahead)
        session = EncryptedSession.wrap(ListSession(), ring, ttl=None)
        item: Any = {"role": "user", "content": "before"}
        await session.add_items([item])
        server.kill()
        answered = time.monotonic()
        write_ended_s = read_ended_s = None
        error = ""
        while read_ended_s is None:
            # Hours in steps of a minute, what is near a bound in steps of a second.
            age = time.monotonic() + ahead - answered
            ahead += 1.0 if min(abs(age - 900), abs(age - 86_400)) < 90 else 60.0
            health = ring.health()
            if write_ended_s is None and not health.can_write:
                write_ended_s = health.last_healthy_s
            if not health.can_read:
                read_ended_s = health.last_healthy_s
                try:
                    await session.get_items()
                except KeyProviderError as raised:
                    error = f"{type(raised).__name__}: {raised}"
            else:
                await session.get_items()
        await ring.aclose()
    return {
        "write_ended_s": round(write_ended_s or 0, 1),
        "read_ended_s": round(read_ended_s, 1),
        "error_of_reading": error,
    }


def condensed(real: dict[str, Any]) -> dict[str, Any]:
    """What the picture needs, in tens of seconds: [begin in s, operations, failed ones, the slowest in ms]."""

    def in_tens(operations: list[dict[str, Any]]) -> list[list[float]]:
        tens: dict[int, list[dict[str, Any]]] = {}
        for operation in operations:
            tens.setdefault(int(operation["at_s"] // 10) * 10, []).append(operation)
        return [
            [
                begin,
                len(found),
                sum(one["error"] is not None for one in found),
                round(max(one["took_s"] for one in found) * 1e3, 2),
            ]
            for begin, found in sorted(tens.items())
        ]

    return {
        "acts": real["acts"],
        "calls": real["calls"],
        "failed_rounds_at_s": [event["at_s"] for event in real["events"] if event["what"] == "failed"],
        "served_stale_at_s": [event["at_s"] for event in real["events"] if event["what"] == "served stale"],
        "can_write": real["changes"],
        "writes": in_tens(real["writes"]),
        "reads": in_tens(real["reads"]),
        "error_of_writing": next((one["error"] for one in real["writes"] if one["error"] is not None), None),
    }


def measure() -> None:
    """Run both parts and write what they gave."""
    logging.getLogger("keyproviders").addHandler(logging.NullHandler())
    real = asyncio.run(real_part())
    accelerated = asyncio.run(accelerated_part())
    policy = CachePolicy()
    measured = {
        "measured_on": datetime.now(timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "policy": {name: getattr(policy, name) for name in policy.__slots__},
        "real": condensed(real),
        "accelerated": accelerated,
    }
    DATA.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


# -- The picture ------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT = 920, 128, 28
GOOD, SLOW, BAD, INK, FAINT = "#2e7d4f", "#d9902f", "#c0392b", "#222222", "#bbbbbb"


class Drawing:
    """Lines of an SVG, on an axis of seconds from 0 to `end_s`."""

    def __init__(self, end_s: float) -> None:
        self.end_s = end_s
        self.lines: list[str] = []

    def x(self, at_s: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * at_s / self.end_s, 1)

    def bar(self, begin_s: float, end_s: float, y: float, colour: str, height: float = 18) -> None:
        x = self.x(begin_s)
        width = round(self.x(end_s) - x, 1)
        self.lines.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = FAINT, dashes: str = "") -> None:
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.lines.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"{dashed}/>')

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, size: int = 12) -> None:
        told = words.replace("&", "&amp;").replace("<", "&lt;")
        self.lines.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{told}</text>'
        )

    def axis(self, y: float, top: float, every_s: float, unit_s: float, unit: str) -> None:
        for number in range(int(self.end_s // every_s) + 1):
            at = number * every_s
            self.line(self.x(at), top, self.x(at), y, "#e6e6e6")
            words = f"{at / unit_s:g}" + (f" {unit}" if number == 0 else "")
            self.text(self.x(at), y + 15, words, anchor="middle", colour="#555555", size=11)


def draw_real(measured: dict[str, Any]) -> Drawing:
    """The upper part: minutes, in real time."""
    real = measured["real"]
    stopped_s, killed_s, started_s = (act["at_s"] for act in real["acts"])
    ended_s = next(change["at_s"] for change in real["can_write"] if change["at_s"] > 1 and not change["can_write"])
    drawing = Drawing(END_S)
    drawing.axis(330, 62, 60, 60, "min")
    drawing.text(16, 84, "key server")
    for begin, end, colour, words in (
        (0, stopped_s, GOOD, ""),
        (stopped_s, killed_s, SLOW, "stopped: answers nothing"),
        (killed_s, started_s, BAD, "killed: refuses connections"),
        (started_s, END_S, GOOD, ""),
    ):
        drawing.bar(begin, end, 70, colour)
        drawing.text(drawing.x(begin) + 6, 83, words, colour="#ffffff", size=11)
    drawing.text(16, 120, "ring asks in vain")
    for at in real["failed_rounds_at_s"]:
        drawing.line(drawing.x(at), 107, drawing.x(at), 123, BAD)
    for name, y in (("reads", 143), ("writes", 179)):
        operations = real[name]
        failed = sum(count for _, _, count, _ in operations)
        drawing.text(16, y + 13, {"reads": "reading", "writes": "writing"}[name])
        for bad, tens in groupby(operations, lambda ten: ten[2] > 0):
            begins = [ten[0] for ten in tens]
            drawing.bar(begins[0], min(begins[-1] + 10, END_S), y, BAD if bad else GOOD)
        total = sum(count for _, count, _, _ in operations)
        drawing.text(drawing.x(6), y + 13, f"{total:,} times, {failed} failed", colour="#ffffff", size=11)
    drawing.text(drawing.x(ended_s) + 4, 192, "fails, says why", colour="#ffffff", size=11)
    _draw_slowest(drawing, real["writes"])
    age = next(change["last_healthy_s"] for change in real["can_write"] if change["at_s"] == ended_s)
    drawing.line(drawing.x(ended_s), 62, drawing.x(ended_s), 330, INK, "4 3")
    drawing.text(drawing.x(ended_s) - 5, 58, f"writing ends {age:.1f} s after the last answer", anchor="end", size=11)
    return drawing


def _draw_slowest(drawing: Drawing, writes: list[list[float]]) -> None:
    """The slowest write of each ten seconds, on a scale of powers of ten."""
    bottom, decade = 325.0, 22.0
    drawing.text(16, 222, "slowest write of each 10 s")
    for power, words in ((0, "1 ms"), (1, "10 ms"), (2, "100 ms"), (3, "1 s")):
        y = bottom - decade * (power + 1)
        drawing.line(LEFT, y, WIDTH - RIGHT, y, "#dddddd", "2 3")
        drawing.text(LEFT - 6, y + 4, words, anchor="end", colour="#555555", size=10)
    for begin, _, errors, slowest_ms in writes:
        height = round(decade * (math.log10(max(slowest_ms, 0.11)) + 1), 1)
        drawing.bar(begin + 1, min(begin + 9, END_S), round(bottom - height, 1), BAD if errors else GOOD, height)


def draw_hours(measured: dict[str, Any]) -> Drawing:
    """The lower part: hours, with a clock that was set forward."""
    found = measured["accelerated"]
    drawing = Drawing(25 * 3600.0)
    drawing.axis(480, 392, 3600, 3600, "h")
    drawing.text(16, 414, "reading")
    drawing.bar(0, found["read_ended_s"], 401, GOOD)
    drawing.bar(found["read_ended_s"], drawing.end_s, 401, BAD)
    drawing.text(
        drawing.x(found["read_ended_s"]) - 6,
        414,
        f"ends {found['read_ended_s']:,.1f} s after the last answer",
        anchor="end",
        colour="#ffffff",
        size=11,
    )
    drawing.text(16, 450, "writing")
    drawing.bar(0, found["write_ended_s"], 437, GOOD)
    drawing.bar(found["write_ended_s"], drawing.end_s, 437, BAD)
    return drawing


def picture(measured: dict[str, Any]) -> str:
    """The whole picture, as SVG."""
    title = "An outage of the key server, with a ring's default times"
    frame = Drawing(1)
    frame.text(16, 26, title, size=16)
    frame.text(16, 44, "Real time: a session is read and written once a second.", colour="#555555")
    frame.text(16, 380, "The hours: another run, with a clock that was set forward.", colour="#555555")
    frame.text(
        WIDTH - RIGHT,
        512,
        f"measured on {measured['measured_on']}, Python {measured['python']}, {measured['system']}",
        anchor="end",
        colour="#777777",
        size=10,
    )
    lines = [*frame.lines, *draw_real(measured).lines, *draw_hours(measured).lines]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 524" font-family="system-ui, sans-serif">',
            f"<title>{title}</title>",
            f'<rect width="{WIDTH}" height="524" fill="#ffffff"/>',
            *lines,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    elif sys.argv[1:] == ["draw"]:
        PICTURE.write_text(picture(json.loads(DATA.read_text(encoding="utf-8"))), encoding="utf-8")
    else:
        sys.exit("measure or draw?")
