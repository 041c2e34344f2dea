"""One question to the sources, and how it ended: many may wait for one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import KeyNotFoundError, KeyUnavailableError
from ..key import Key
from .waiting import OneShotEvent

if TYPE_CHECKING:
    from contextvars import Context
    from types import TracebackType

__all__ = ["ACTIVE", "NAMES", "InFlightCall", "copy_of"]

# Neither is a kid or a name, so they can stand among them for "which key is active?" and "which names are there?"
ACTIVE = ""
NAMES = "*"


class InFlightCall:
    """One question to the sources: how to put it, since when, and how it ended.

    `question` is ACTIVE, NAMES, the kid of a held key that is to be confirmed, or the name of one that
    is not held; `kid` which key it was put for, or "" for the first two.
    """

    __slots__ = (
        "_error",
        "_key",
        "_trace",
        "ask",
        "done",
        "is_lookup",
        "kid",
        "name",
        "number",
        "once",
        "question",
        "started_at",
        "waiters",
    )

    def __init__(
        self,
        number: int,
        question: str,
        ask: Callable[[], Key | None],
        *,
        kid: str = "",
        name: str = "",
        is_lookup: bool = False,
        once: bool = False,
    ) -> None:
        self.number = number
        self.question = question
        self.ask = ask
        self.kid = kid
        self.name = name or question  # what a source is asked for
        self.is_lookup = is_lookup  # of what is not held: it waits for its turn among those
        self.once = once  # not to be tried again when the place cannot answer
        self.started_at: float | None = None
        self.done = OneShotEvent()
        self.waiters: list[Context] = []  # for those who are told of calls
        self._key: Key | None = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None

    @property
    def is_answer(self) -> bool:
        """Whether it ended with what the sources have, or do not have, under its name."""
        return self._key is not None or isinstance(self._error, KeyNotFoundError)

    def resolve(self, key: Key | None, error: BaseException | None) -> None:
        """End it with a key, an error, or neither if nobody will run it. To be called once."""
        self._key, self._error = key, error
        self._trace = None if error is None else error.__traceback__
        self.done.set()

    def age_s(self) -> float:
        """Seconds since a thread took it up."""
        return 0.0 if self.started_at is None else time.monotonic() - self.started_at

    def result(self) -> Key:
        """The key, or the error. It must be done."""
        if self._key is not None:
            return self._key
        if self._error is None:
            raise KeyUnavailableError("the call was abandoned")
        # Each raise adds to a traceback; what is shared begins anew each time.
        raise copy_of(self._error).with_traceback(self._trace)

    def __str__(self) -> str:
        asked = {ACTIVE: "active()", NAMES: "names()"}.get(self.question, self.kid)
        return f"{asked} for {self.age_s():.0f} s"


def copy_of(error: BaseException) -> BaseException:
    """An error as a new object, for several waiters may raise it at the same time.

    Each raise writes to the exception: its traceback would grow by every waiter, and keep the
    frames of all of them. Only a foreign error that cannot be made anew is raised as it is.
    """
    from copy import copy  # noqa: PLC0415 - only where something failed

    try:
        copied = copy(error)
    except Exception:  # noqa: BLE001 - whatever a foreign type's __init__ raises
        try:
            # Without __init__, whose arguments are not those in `args`.
            copied = type(error).__new__(type(error), *error.args)
            copied.__dict__.update(error.__dict__)
        except Exception:  # noqa: BLE001 - whatever its __new__ raises
            return error
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = True
    return copied
