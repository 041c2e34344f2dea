"""`make screenshots`: the page of an inventory as it looks, for docs/pictures. Needs Chromium; the network stays off.

The store that is shown is made anew each time, with the same keys, rows and times. A picture has few colours, so that
it is small. Given names of pictures, it makes these alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

from encrypted_sessions import Key, KeyRing  # noqa: E402 - after the path is set
from encrypted_sessions._support.origin import library_version  # noqa: E402 - likewise
from encrypted_sessions.cli.inventory_page import inventory_page  # noqa: E402 - likewise
from encrypted_sessions.core.envelope import pack_row  # noqa: E402 - likewise
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher  # noqa: E402 - likewise
from encrypted_sessions.maintenance import InventoryReport, inventory  # noqa: E402 - likewise
from encrypted_sessions_tests.bulk_rows import write_rows  # noqa: E402 - likewise
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys  # noqa: E402 - likewise
from encrypted_sessions_tests.stores import StoreLocation  # noqa: E402 - likewise
from encrypted_sessions_tests.whole_stores import make_tables, whole  # noqa: E402 - likewise

__all__ = ["FOLDER", "PICTURES", "page"]

FOLDER = ROOT / "docs" / "pictures"

_DAY_S = 86_400
_NOW = 20_788 * _DAY_S + 36_000  # 2026-12-01, ten in the morning
_DAYS, _TTL_DAYS = 76, 40
_SEED = 20

#: Which key wrote from how many days ago on; the oldest is not at hand any more.
_KEYS = {"2026-08": _DAYS, "2026-09": 60, "2026-10": 31, "2026-11": 9}
_LOST = "2026-08"

#: So high is the window; what is below the page is cut off.
_HEIGHT = 5_000
_MARGIN = 24
_COLOURS = 56


class _Look(NamedTuple):
    width: int
    is_dark: bool = False
    on_paper: bool = False


#: Each picture, and how the page is looked at for it.
PICTURES: Mapping[str, _Look] = {
    "inventory-1120-light.png": _Look(1120),
    "inventory-1120-dark.png": _Look(1120, is_dark=True),
    "inventory-800-light.png": _Look(800),
    "inventory-800-dark.png": _Look(800, is_dark=True),
    "inventory-400-light.png": _Look(400),
    "inventory-400-dark.png": _Look(400, is_dark=True),
    "inventory-print.png": _Look(718, on_paper=True),  # what lies between the margins of A4
}


def main() -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("The pictures are made with Chromium, and there is none on PATH (chromium, google-chrome).")
    text = page()
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        data = _small(_looked_at(browser, text, PICTURES[name]))
        (FOLDER / name).write_bytes(data)
        sys.stdout.write(f"{name}: {len(data) / 1024:.0f} KiB\n")


# -- The page ---------------------------------------------------------------------------------------


def page() -> str:
    """The page that is shown: the same text each time."""
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(_report(StoreLocation("sqlite", f"{folder}/agents.db", "shown")))
    report = dataclasses.replace(report, store="the SQLite file /var/lib/agents/sessions.db", took_s=1.3)
    return inventory_page(report, library_version())


async def _report(place: StoreLocation) -> InventoryReport:
    keys = {name: Key(name, hashlib.sha256(name.encode()).digest()) for name in _KEYS}
    dice = random.Random(_SEED)
    await make_tables(place)
    for day in range(_DAYS, -1, -1):
        name = next(one for one, since in reversed(_KEYS.items()) if day <= since)
        for number in range(dice.randint(1, 5)):
            session_id = f"user-{day}-{number}"
            stamp = _NOW - day * _DAY_S - dice.randint(0, 30_000)
            rows = list(_rows(keys[name], session_id, stamp, dice))
            if day < 2:
                rows.append('{"role": "user", "content": "never sealed"}')
            await write_rows(place, session_id, rows)
    provider = ScriptedKeys(*(key for name, key in reversed(keys.items()) if name != _LOST))
    with mock.patch("time.time", return_value=float(_NOW)):
        async with KeyRing(provider) as ring, whole(place) as store:
            return await inventory(store, ring, ttl=_TTL_DAYS * _DAY_S)


def _rows(key: Key, session_id: str, stamp: int, dice: random.Random) -> Iterator[str]:
    cipher = FernetCipher.derive(key.secret, session_id)
    for _ in range(dice.randint(3, 40)):
        item = {"role": "user", "content": "The table by the window is free. " * dice.randint(1, 20)}
        row = pack_row(key.kid, cipher.seal(item, stamp))
        is_altered = dice.random() < 0.01
        yield row[:-12] + ("A" if row[-12] != "A" else "B") + row[-11:] if is_altered else row


# -- Pictures ---------------------------------------------------------------------------------------


def _looked_at(browser: str, text: str, look: _Look) -> bytes:
    """A picture of the whole window, as the browser writes it."""
    if look.on_paper:
        text = text.replace("@media print", "@media all")
    scheme = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0") if look.is_dark else ()
    with tempfile.TemporaryDirectory() as folder:
        file, picture = Path(folder, "page.html"), Path(folder, "page.png")
        file.write_text(text, encoding="utf-8")
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-lcd-text",  # whose coloured edges make a picture large
                "--force-color-profile=srgb",
                "--proxy-server=127.0.0.1:9",  # where nobody listens
                f"--user-data-dir={folder}/profile",
                f"--window-size={look.width},{_HEIGHT}",
                f"--screenshot={picture}",
                *scheme,
                file.as_uri(),
            ],
            check=True,
            capture_output=True,
        )
        return picture.read_bytes()


def _small(png: bytes) -> bytes:
    """The same picture without what is below the page, in few colours."""
    width, lines = _decoded(png)
    ground = lines[-1]
    while len(lines) > 1 and lines[-1] == ground:
        lines.pop()
    lines += [ground] * _MARGIN
    colours = Counter(colour for line in lines for colour in _pixels(line))
    palette = [colour for colour, _ in colours.most_common(_COLOURS)]
    index = {colour: _nearest(colour, palette) for colour in colours}
    data = b"".join(b"\0" + bytes(map(index.__getitem__, _pixels(line))) for line in lines)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(lines), 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"".join(map(bytes, palette))),
            _chunk(b"IDAT", zlib.compress(data, 9)),
            _chunk(b"IEND", b""),
        )
    )


_Colour = tuple[int, int, int]


def _pixels(line: bytes) -> Iterator[_Colour]:
    return zip(line[::3], line[1::3], line[2::3], strict=True)


def _nearest(colour: _Colour, palette: list[_Colour]) -> int:
    return min(range(len(palette)), key=lambda at: sum((a - b) ** 2 for a, b in zip(colour, palette[at], strict=True)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _decoded(png: bytes) -> tuple[int, list[bytes]]:
    """The width, and the lines of red, green and blue."""
    place, packed, header = 8, b"", b""
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        data = png[place + 8 : place + 8 + length]
        header, packed = (data, packed) if kind == b"IHDR" else (header, packed + data if kind == b"IDAT" else packed)
        place += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", header)
    channels = {2: 3, 6: 4}[colour]
    assert depth == 8, depth
    raw, size = zlib.decompress(packed), width * channels
    above, lines = bytes(size), list[bytes]()
    for start in range(0, height * (size + 1), size + 1):
        above = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + size]), above, channels)
        lines.append(above if channels == 3 else _without_alpha(above))
    return width, lines


def _unfiltered(kind: int, line: bytearray, above: bytes, step: int) -> bytes:
    """A line as it was before the filter of PNG (RFC 2083, section 6)."""
    if kind == 2:
        return _sum(line, above)
    for at, byte in enumerate(line):
        left, up = line[at - step] if at >= step else 0, above[at]
        corner = above[at - step] if at >= step else 0
        line[at] = (byte + (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]) & 255
    return bytes(line)


def _sum(line: bytes, other: bytes) -> bytes:
    """Byte by byte, each modulo 256: all at once, since most lines are such ones."""
    size = len(line)
    low, top = int.from_bytes(b"\x7f" * size, "big"), int.from_bytes(b"\x80" * size, "big")
    one, two = int.from_bytes(line, "big"), int.from_bytes(other, "big")
    return ((one & low) + (two & low) ^ (one ^ two) & top).to_bytes(size, "big")


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))


def _without_alpha(line: bytes) -> bytes:
    opaque = bytearray(len(line) // 4 * 3)
    for channel in range(3):
        opaque[channel::3] = line[channel::4]
    return bytes(opaque)


if __name__ == "__main__":
    main()
