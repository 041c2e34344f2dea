"""Audit logs and their files, as tests make and read them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from encrypted_sessions import ItemCount, SessionEvent
from encrypted_sessions.audit.verification import LogVerdict, verify_files

__all__ = ["event", "files_in", "lines_in", "read_event", "refused_event", "said_in", "verdict_of"]

AT = datetime(2026, 12, 1, 9, 0, tzinfo=timezone.utc)


def event(sequence: int = 1, **more: Any) -> SessionEvent:
    """Of one item that was added."""
    fields: dict[str, Any] = {
        "at": AT,
        "sequence": sequence,
        "operation": "add_items",
        "session": "user-1",
        "store": "SQLiteSession",
        "uses": (ItemCount("k~00000000", "sealed", 1),),
        "refused": 0,
        "removed": 0,
        "findings": (),
        "error": None,
        "took_s": 0.001,
        "context": {},
    }
    return SessionEvent(**{**fields, **more})


def read_event(sequence: int = 1, **more: Any) -> SessionEvent:
    """Of one item that was read."""
    uses = (ItemCount("k~00000000", "ok", 1),)
    return event(sequence, **{"operation": "get_items", "uses": uses, "removed": None, **more})


def refused_event(sequence: int = 1, **more: Any) -> SessionEvent:
    """Of two rows, one of which was refused."""
    uses = (ItemCount("k~00000000", "ok", 1), ItemCount("k~00000000", "unauthentic", 1))
    return read_event(sequence, **{"uses": uses, "refused": 1, "error": "UnreadableItemsError", **more})


def files_in(folder: Path) -> list[str]:
    """The files of the logs in a folder."""
    return sorted(map(str, folder.glob("audit-*.jsonl")))


def lines_in(folder: Path) -> list[dict[str, Any]]:
    """What stands in them."""
    return [json.loads(line) for file in files_in(folder) for line in Path(file).read_bytes().splitlines()]


def said_in(folder: Path) -> list[dict[str, Any]]:
    """The same without first and last lines."""
    return [line for line in lines_in(folder) if line["event"] not in ("begin", "end")]


def verdict_of(folder: Path, *arguments: Any) -> LogVerdict:
    """Of the only log in a folder."""
    (verdict,) = verify_files(files_in(folder), *arguments)
    return verdict
