"""What the suites here have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

__all__ = [
    "at_once",
    "expect",
    "expect_closes_twice",
    "expect_no_new_threads",
    "expect_refused",
    "is_text",
    "renew",
    "shows",
]


def expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Fail with these words unless it holds."""
    # Spelled out, for the authors of providers may run their tests without assertions rewritten.
    if not holds:
        raise AssertionError(otherwise)


def expect_refused(
    call: Callable[[], object], error: type[Exception] | tuple[type[Exception], ...], otherwise: str
) -> Exception:
    """Fail with these words unless the call raises such an error, which is returned."""
    try:
        call()
    except error as caught:
        return caught
    raise AssertionError(otherwise)


def at_once(call: Callable[[], object], threads: int = 4) -> list[object]:
    """What the call gave, or raised, in each of so many threads at once."""
    found: list[object] = []
    start = threading.Barrier(threads)

    def run() -> None:
        start.wait()
        try:
            found.append(call())
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            found.append(error)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return found


def expect_no_new_threads(call: Callable[[], object]) -> None:
    """Fail if the call leaves a thread behind."""
    before = threading.active_count()
    call()
    expect(threading.active_count() <= before, "a call left a thread behind")


def renew(part: object) -> None:
    """Call its `after_fork()`, if it has one."""
    renewing = getattr(part, "after_fork", None)
    if renewing is not None:
        renewing()


def expect_closes_twice(part: object) -> None:
    """Call its `close()` twice, if it has one."""
    closing = getattr(part, "close", None)
    if closing is not None:
        closing()
        closing()


def is_text(value: object) -> bool:
    """Whether it is a str with anything in it."""
    return isinstance(value, str) and bool(value)


def shows(texts: Collection[str], secret: bytes, base64: str) -> bool:
    """Whether any of the texts has the secret in one of its usual forms."""
    forms = (base64.rstrip("="), secret.hex(), repr(secret)[2:-1])
    return any(form in text for text in texts for form in forms)
