"""On whose behalf something is done: words of the application that each event carries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token

from keyproviders import redact_frames

__all__ = ["audit_context", "context_now"]

_MOST_ENTRIES = 8
_LONGEST = 256

# What ends or steers a line, and what UTF-8 cannot hold.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_context: ContextVar[Mapping[str, str] | None] = ContextVar("encrypted_sessions_context", default=None)


@redact_frames
def audit_context(**values: str) -> AbstractContextManager[None]:
    """A context manager: what this task, and tasks that it starts, do inside it is recorded with these values.

        with audit_context(actor="u-17", tenant="acme", request_id="r-9"):
            await session.get_items()

    Every event has them as `context`. Nested contexts add their values; if a name is given twice, the inner value
    counts. Up to 8 names in total; names and values have up to 256 characters, without control characters.

    Args:
        values: The values, by name.

    Returns:
        The context manager.

    Raises:
        TypeError: A value is not a str.
        ValueError: A name or a value is too long or has a control character, or there are too many.
    """
    for name, value in values.items():
        _check(name, f"the name {name[:40]!r}")
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        _check(value, name)
    _check_number(values)
    return _Within(values)


def _check(text: str, what: str) -> None:
    if len(text) > _LONGEST:
        raise ValueError(f"{what} has {len(text):,} characters; an audit context allows {_LONGEST}")
    if _REFUSED.search(text):
        raise ValueError(
            f"{what} has a control character, or one that UTF-8 cannot hold, which an audit context does not allow"
        )


def _check_number(values: Mapping[str, str]) -> None:
    if len(values) > _MOST_ENTRIES:
        raise ValueError(f"an audit context allows {_MOST_ENTRIES} entries, not {len(values)}")


class _Within(AbstractContextManager[None]):
    """What `audit_context` gives. It may be entered again, and within itself."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._tokens: list[Token[Mapping[str, str] | None]] = []

    @redact_frames
    def __enter__(self) -> None:
        merged = {**(_context.get() or {}), **self._values}
        _check_number(merged)
        self._tokens.append(_context.set(merged))

    def __exit__(self, *_: object) -> None:
        _context.reset(self._tokens.pop())


def context_now() -> dict[str, str]:
    """What holds in this task, for one event."""
    return dict(_context.get() or ())
