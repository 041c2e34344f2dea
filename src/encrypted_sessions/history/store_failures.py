"""What a session raises in place of its store's own errors.

A driver's error can quote rows and the session's id. What is raised instead says which store, what was asked of
it and what to do. It is caught as what the driver raised, too, which is its cause unless that quotes values.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from types import new_class
from typing import Any

from keyproviders import KeyProviderError

from ..errors import EncryptedSessionError, StoreError, StoreTimeoutError, StoreUnavailableError
from ..stores.driver_errors import (
    hide_parameters,
    quotes_values,
    sqlstate_of,
    trouble_of,
    words_of,
)

__all__ = ["failure_of"]

#: Attributes that name a kind of error, and hold no value.
_CODES = ("code", "errno", "pgcode", "sqlite_errorcode", "sqlite_errorname", "sqlstate", "strerror")

_classes: dict[tuple[type[StoreError], type[Exception]], type[StoreError]] = {}


def failure_of(error: Exception, *, store: str, asked: str, changes: bool, session_id: str) -> Exception:
    """What to raise for what a call into a store raised: `error` itself where that is not of a driver."""
    trouble = None if isinstance(error, (EncryptedSessionError, KeyProviderError)) else trouble_of(error)
    if trouble is None:
        return error
    hide_parameters(error)
    hides = quotes_values(error, session_id)
    state, words = sqlstate_of(error), words_of(error)
    if hides and quotes_values(Exception(words), session_id):
        words = type(getattr(error, "orig", None) or error).__name__
    kind: type[StoreError] = StoreError
    if trouble.passes:
        # Only what is a TimeoutError already: whoever waits for the session with a limit takes that for the limit's.
        timed_out = isinstance(error, (TimeoutError, asyncio.TimeoutError))
        kind = StoreTimeoutError if timed_out else StoreUnavailableError
    message = f"{store} failed to {asked}: {words}{f' (SQLSTATE {state})' if state else ''}. {trouble.advice}"
    if changes and trouble.leaves_doubt:
        message += ". It is not known whether anything was changed: read the items again before you retry"
    carried = _carried(error, everything=not hides)
    failure = _made(kind, type(error), message, carried, in_doubt=changes)
    failure.__cause__ = None if hides else error
    return failure


def _carried(error: Exception, *, everything: bool) -> dict[str, Any]:
    """The attributes of a driver's error, for those who look at them; None in place of what could hold values."""
    found = {**vars(error), **{name: getattr(error, name) for name in _CODES if _is_plain(getattr(error, name, ()))}}
    if everything:
        return found
    return {name: value if name in _CODES or type(value) in (bool, int) else None for name, value in found.items()}


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, str))


def _made(
    kind: type[StoreError], driver: type[Exception], message: str, carried: dict[str, Any], *, in_doubt: bool
) -> StoreError:
    """An error of `kind` that is caught as `driver`'s class, too. No constructor of a driver's runs."""
    found = _class_of(kind, driver)
    failure = found.__new__(found, message)
    for name, value in () if found is kind else carried.items():  # an OSError shows its number in place of its words
        with suppress(AttributeError, TypeError):  # a driver's class may compute it
            setattr(failure, name, value)
    failure.args = (message,)
    if isinstance(failure, StoreTimeoutError):
        failure.in_doubt = in_doubt
    return failure


def _class_of(kind: type[StoreError], driver: type[Exception]) -> type[StoreError]:
    """The class that is both, made once; `kind` alone where there cannot be one."""
    if issubclass(kind, driver):
        return kind
    found = _classes.get((kind, driver))
    if found is None:
        found = _classes[kind, driver] = _new_class(kind, driver)
    return found


def _new_class(kind: type[StoreError], driver: type[Exception]) -> type[StoreError]:
    def fill(members: dict[str, Any]) -> None:
        members.update(
            __module__=kind.__module__,
            __qualname__=kind.__qualname__,
            __doc__=kind.__doc__,
            __init__=BaseException.__init__,
            __str__=BaseException.__str__,
            __repr__=BaseException.__repr__,
            __reduce__=lambda failure: _reduced(failure, kind, driver),
        )

    try:
        found: type[StoreError] = new_class(kind.__name__, (kind, driver), {}, fill)
        found.__new__(found, "")
    except Exception:  # noqa: BLE001 - whatever a driver's class has against it
        return kind
    return found


def _reduced(failure: StoreError, kind: type[StoreError], driver: type[Exception]) -> tuple[object, ...]:
    carried = {name: value for name, value in _carried(failure, everything=False).items() if value is not None}
    in_doubt = carried.pop("in_doubt", False)
    return _again, (kind, driver.__module__, driver.__qualname__, str(failure), carried, in_doubt)


def _again(
    kind: type[StoreError],
    module: str,
    name: str,
    message: str,
    carried: dict[str, Any],
    in_doubt: bool,  # noqa: FBT001 - as pickle gives it
) -> StoreError:
    """The error in another process. One that has not loaded the driver catches nothing as its class."""
    driver: Any = sys.modules.get(module)
    for part in name.split("."):
        driver = getattr(driver, part, None)
    driver = driver if isinstance(driver, type) and issubclass(driver, Exception) else kind
    return _made(kind, driver, message, carried, in_doubt=in_doubt)
