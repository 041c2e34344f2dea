"""Any session with the five members, used through them alone."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from .rows import HistoryMovedError, Row

__all__ = ["METHODS", "PlainCursor", "PlainStore", "accepts_wrapper", "call", "settings_limit"]

#: What the SDK itself asks a store for when it wants everything, whatever the store's own limit.
_ALL = 2**31 - 1

#: What the SDK calls on a session.
METHODS = ("get_items", "add_items", "pop_item", "clear_session")


class PlainStore:
    """A session without addressable rows."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def cursor(self, keywords: dict[str, Any]) -> PlainCursor:
        """A walk from the newest row; `keywords` go to each call of get_items."""
        return PlainCursor(self._session, keywords)


class PlainCursor:
    """Walks by asking for ever more of the newest items: such a store has no other way.

    `fetched` counts every item that the store handed over, also those that it handed over before.
    """

    def __init__(self, session: Any, keywords: dict[str, Any]) -> None:
        self._session = session
        self._keywords = keywords
        self._seen = 0
        self._oldest: object = None
        self.fetched = 0
        self.exhausted = False

    async def fetch(self, count: int | None, *, at_most: int | None = None) -> list[Row]:
        """As `RowCursor.fetch`; without a count, all the rest."""
        if count is None and at_most is None:
            stored = await call(self._session.get_items, *self._everything(), **self._keywords)
            self.exhausted = True
        else:
            # Doubled, so that a long walk costs no more than twice its length.
            window = _ALL if count is None else self._seen + max(count, self._seen)
            window = min(window, _ALL if at_most is None else at_most, _ALL)
            if window <= self._seen:
                return []
            stored = await call(self._session.get_items, window, **self._keywords)
            self.exhausted = len(stored) < window
        self.fetched += len(stored)
        if self._seen and (len(stored) < self._seen or stored[-self._seen] != self._oldest):
            raise HistoryMovedError
        older = stored[: len(stored) - self._seen]
        self._seen = len(stored)
        if stored:
            self._oldest = stored[0]
        return [Row(None, item) for item in reversed(older)]

    def _everything(self) -> tuple[int, ...]:
        # Without an argument a store applies the limit of its own settings, if it has one.
        return () if settings_limit(self._session) is None else (_ALL,)


async def call(method: Any, *arguments: Any, **keywords: Any) -> Any:
    """Call a session's method, and await what it gives if that can be: the SDK takes both."""
    answer = method(*arguments, **keywords)
    return await answer if inspect.isawaitable(answer) else answer


def settings_limit(session: Any) -> Any:
    """The limit in a session's settings (an object or a dict), None where there is none."""
    settings = getattr(session, "session_settings", None)
    return settings.get("limit") if isinstance(settings, dict) else getattr(settings, "limit", None)


def accepts_wrapper(session: Any) -> bool:
    """Whether all four methods of a session take the SDK's `wrapper` keyword."""
    return all(_takes_wrapper(getattr(session, name)) for name in METHODS)


def _takes_wrapper(method: Any) -> bool:
    # A signature takes some time to work out, and sessions of a class share their functions.
    function = getattr(method, "__func__", None)
    return _has_wrapper(method) if function is None else _function_has_wrapper(function)


@lru_cache(maxsize=256)
def _function_has_wrapper(function: Any) -> bool:
    return _has_wrapper(function)


def _has_wrapper(method: Any) -> bool:
    try:
        parameter = inspect.signature(method).parameters.get("wrapper")
    except (TypeError, ValueError):  # a method without a signature, of a C type or a mock
        return False
    return parameter is not None and parameter.kind in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
