"""What a session is asked for when its store fails, and what its error must be."""

from __future__ import annotations

import asyncio
import pickle
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, StoreError, StoreUnavailableError
from encrypted_sessions_tests.sealed_rows import message

__all__ = ["PATIENCE_S", "SESSION", "crosses_a_process_boundary", "failure", "operations", "until_it_works"]

#: An id that stands out in any text.
SESSION = "customer-4711-of-agents"

#: In which every call has ended.
PATIENCE_S = 35.0


def operations(session: EncryptedSession, new: str = "new") -> dict[str, Callable[[], Awaitable[Any]]]:
    """What may be asked of a session, by name; `new` is what it adds."""
    return {
        "get_items": session.get_items,
        "read": session.read,
        "add_items": lambda: session.add_items([message(new)]),
        "pop_item": session.pop_item,
        "purge_expired": session.purge_expired,
        "clear_session": session.clear_session,
        "compaction": lambda: session._atomic_replace_items([message("both")]),
    }


async def failure(
    operation: Callable[[], Awaitable[Any]], *kinds: type[BaseException], store: str, cure: str = ""
) -> StoreError:
    """The error that an operation ends with: of each of these kinds, without a row or an id in any text of it."""
    with pytest.raises(StoreError) as caught:
        await asyncio.wait_for(operation(), PATIENCE_S)
    error = caught.value
    for kind in kinds:
        assert isinstance(error, kind), type(error).__mro__
    assert str(error).startswith(f"{store} ")
    assert cure in str(error)
    _shows_nothing(error)
    crosses_a_process_boundary(error)
    return error


async def until_it_works(operation: Callable[[], Awaitable[Any]]) -> Any:
    """A client may hold connections that broke meanwhile, and finds out one by one."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await asyncio.wait_for(operation(), PATIENCE_S)
        except StoreUnavailableError:
            if time.monotonic() > ends:
                raise
        await asyncio.sleep(0.02)


def _shows_nothing(error: BaseException) -> None:
    everything = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    seen: list[Any] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            everything += f"{one!s} {one!r} {one.args!r} {vars(one)!r}"
            todo += [one.__cause__, one.__context__, getattr(one, "orig", None)]
    assert SESSION not in everything
    assert "__enc__" not in everything
    assert "gAAAA" not in everything


def crosses_a_process_boundary(error: StoreError) -> None:
    """See that an error can be pickled, and what comes back is the same."""
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert repr(back) == repr(error)
    assert back.args == error.args
    assert getattr(back, "in_doubt", None) == getattr(error, "in_doubt", None)
