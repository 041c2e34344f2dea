"""Whether the files of audit logs are whole: no line altered, missing or out of order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from keyproviders import KeyProviderError

from .chain import FIRST_PREV, HMAC_SHA256, SHA256, digest, parsed

if TYPE_CHECKING:
    from keyproviders import Key, KeyRing

__all__ = ["LogVerdict", "Until", "parse_until", "verify_files"]

#: No line of ours is nearly as long.
_LONGEST_LINE = 16 * 2**20

_UNTIL = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


class Until(NamedTuple):
    """A line that was kept elsewhere: its number, and its digest."""

    number: int
    hash: str


def parse_until(text: str) -> Until:
    """What somebody gave as `NUMBER:HASH`. Raises ValueError."""
    found = _UNTIL.fullmatch(text)
    if found is None:
        raise ValueError("give a number and a hash of 64 digits, as the log has them: NUMBER:HASH")
    return Until(int(found[1]), found[2])


@dataclass
class LogVerdict:
    """What was found of the files of one process.

    Attributes:
        files: The files, in the order of their lines.
        lines: How many lines are in order.
        hash: The digest of the last of these.
        problem: What is wrong first, and where; None where all is in order.
        closed: Whether the last line says that the log was closed.
        lost: Lines that could not be written, as the log itself says.
        has_until: Whether the line that was kept elsewhere is among these.
    """

    files: list[str]
    lines: int = 0
    hash: str = FIRST_PREV
    problem: str | None = None
    closed: bool = False
    lost: int = 0
    has_until: bool = False


class _AlteredError(Exception):
    """A line that is not as it was written; with words about it."""


class _Head(NamedTuple):
    """What a file's first line says of the file."""

    path: str
    log: str
    number: int
    kid: str | None


def verify_files(paths: Sequence[str], ring: KeyRing | None = None, until: Until | None = None) -> list[LogVerdict]:
    """A verdict for each log that the files are of. Raises OSError for what cannot be read.

    `ring` has the keys of chained logs. With it a log without keys is in no order.
    """
    logs: dict[str, list[_Head]] = {}
    verdicts = []
    for path in dict.fromkeys(str(Path(path).resolve()) for path in paths):
        try:
            head = _head(path)
        except _AlteredError as error:
            verdicts.append(LogVerdict([path], problem=str(error)))
        else:
            logs.setdefault(head.log, []).append(head)
    for heads in logs.values():
        heads.sort(key=lambda head: head.number)
        verdict = LogVerdict([head.path for head in heads])
        try:
            _follow(heads, ring, until, verdict)
        except _AlteredError as error:
            verdict.problem = str(error)
        verdicts.append(verdict)
    return verdicts


def _head(path: str) -> _Head:
    with open(path, "rb") as file:  # noqa: PTH123 - as in `_lines`
        line = next(_lines(file), None)
    if line is None:
        raise _AlteredError(f"{path}, line 1 is missing: the file is empty")
    fields = _fields(line, f"{path}, line 1")
    chain: Any = fields.get("chain")
    kind, kid = (chain.get("by"), chain.get("kid")) if isinstance(chain, dict) else (None, None)
    is_keyed = kind == HMAC_SHA256 and isinstance(kid, str)
    if fields.get("event") != "begin" or not isinstance(fields.get("log"), str) or not (is_keyed or kind == SHA256):
        raise _AlteredError(f"{path}, line 1 was altered: it is not the first line of an audit log")
    return _Head(path, fields["log"], fields["n"], kid if is_keyed else None)


def _follow(heads: Sequence[_Head], ring: KeyRing | None, until: Until | None, verdict: LogVerdict) -> None:
    """Go through the lines of one log, as long as each follows the one before it."""
    last: bytes | None = None
    for head in heads:
        key = _key(head, ring)
        # The line before a file's first one counts under that file's key.
        prev = FIRST_PREV if last is None else digest(last, key)
        with open(head.path, "rb") as file:  # noqa: PTH123 - as in `_lines`
            for place, line in enumerate(_lines(file), 1):
                where = f"{head.path}, line {place}"
                fields = _fields(line, where)
                _check_number(fields["n"], verdict, where)
                if fields["prev"] != prev:
                    problem = "it does not follow the line before it: one of the two was altered"
                    raise _AlteredError(f"{where} (number {fields['n']}): {problem}")
                last = line[:-1]
                prev = digest(last, key)
                verdict.lines, verdict.hash = fields["n"], prev
                verdict.closed = fields.get("event") == "end"
                if fields.get("event") == "lost" and type(fields.get("lines")) is int:
                    verdict.lost += fields["lines"]
                if until is not None and fields["n"] == until.number:
                    verdict.has_until = prev == until.hash


def _check_number(number: int, verdict: LogVerdict, where: str) -> None:
    expected = verdict.lines + 1
    if verdict.closed:
        raise _AlteredError(f"{where}: it is out of order: it follows the line that closed the log")
    if number > expected:
        missing = f"line {expected:,} is" if number == expected + 1 else f"lines {expected:,} to {number - 1:,} are"
        raise _AlteredError(f"{where}: {missing} missing or out of order before it, which has the number {number:,}")
    if number < expected:
        raise _AlteredError(f"{where}: it is out of order, with the number {number:,} after {verdict.lines:,}")


def _key(head: _Head, ring: KeyRing | None) -> Key | None:
    if head.kid is None:
        if ring is not None:
            raise _AlteredError(
                f"{head.path}, line 1: it is not keyed, so whoever can write to the file can chain it again"
            )
        return None
    if ring is None:
        raise _AlteredError(f"{head.path}: it is keyed, under {head.kid!a}; give --chain-keys to verify it")
    try:
        return ring.get_sync(head.kid)
    except KeyProviderError as error:
        problem = str(error)
    raise _AlteredError(f"{head.path}: the key {head.kid!a}, which it names, could not be fetched: {problem}")


def _fields(line: bytes, where: str) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise _AlteredError(f"{where} is cut off: its end is missing")
    try:
        return parsed(line[:-1])
    except ValueError:
        raise _AlteredError(f"{where} was altered: it is not a line of an audit log") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        yield line
