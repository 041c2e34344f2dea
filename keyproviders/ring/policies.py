"""The numbers that a ring goes by. Each has its unit in its name and is checked when it is set."""

from __future__ import annotations

from math import isfinite
from typing import NoReturn

from .._support.redaction import redact_frames

__all__ = ["CachePolicy", "RetryPolicy"]


class _Policy:
    """Numbers that are set once, checked, and compared by value.

    Written out rather than made a dataclass, which would take a quarter of the time that importing
    this package takes.
    """

    __slots__: tuple[str, ...] = ()

    def _set(self, name: str, value: object, *, whole: bool = False, may_be_zero: bool = False) -> None:
        where = f"{type(self).__name__}.{name}"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            expected = "an int" if whole else "a number of seconds"
            raise TypeError(f"{where} must be {expected}, not {type(value).__name__}")
        if not isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
            least = "0 or more" if may_be_zero else "more than 0"
            raise ValueError(f"{where} must be finite and {least}; {value} was given")
        super().__setattr__(name, value)

    def _keep_order(self, smaller: str, larger: str) -> None:
        low, high = getattr(self, smaller), getattr(self, larger)
        if low > high:
            name = type(self).__name__
            raise ValueError(f"{name}.{smaller} ({low}) must not be more than {name}.{larger} ({high})")

    def _values(self) -> tuple[float, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value}" for name, value in zip(self.__slots__, self._values(), strict=True))
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    @redact_frames
    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed, so {name!r} cannot be set; make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed, so {name!r} cannot be deleted")

    def __reduce__(self) -> tuple[type[_Policy], tuple[float, ...]]:
        return type(self), self._values()


class CachePolicy(_Policy):
    """How long a ring may use what it knows. All times are in seconds.

    Args:
        fresh_s: The question which key is active is not repeated before its answer has this age.
        stale_write_s: While the provider fails, the active key may be used to write until this long after the last
            good answer.
        stale_read_s: While the provider fails, held keys may be used to read until this long after the last good
            answer.
        revalidate_s: An older key that is in use is requested again in the background at this age.
        denied_grace_s: Repeated denials count as an outage for this long; then the denied key is dropped.
        max_keys: How many older keys are held; the least recently used are dropped first.
        miss_memory_s: How long "no such key" is remembered.

    Raises:
        TypeError: A field is not a number; the message names it.
        ValueError: A field has a value that is not allowed; the message names it.
    """

    __slots__ = (  # noqa: RUF023 - in the order of __init__
        "fresh_s",
        "stale_write_s",
        "stale_read_s",
        "revalidate_s",
        "denied_grace_s",
        "max_keys",
        "miss_memory_s",
    )

    fresh_s: float
    stale_write_s: float
    stale_read_s: float
    revalidate_s: float
    denied_grace_s: float
    max_keys: int
    miss_memory_s: float

    @redact_frames
    def __init__(
        self,
        fresh_s: float = 300.0,
        stale_write_s: float = 900.0,
        stale_read_s: float = 86_400.0,
        revalidate_s: float = 3_600.0,
        denied_grace_s: float = 300.0,
        max_keys: int = 1_000,
        miss_memory_s: float = 30.0,
    ) -> None:
        self._set("fresh_s", fresh_s)
        self._set("stale_write_s", stale_write_s)
        self._set("stale_read_s", stale_read_s)
        self._set("revalidate_s", revalidate_s)
        self._set("denied_grace_s", denied_grace_s, may_be_zero=True)
        self._set("max_keys", max_keys, whole=True)
        self._set("miss_memory_s", miss_memory_s, may_be_zero=True)
        self._keep_order("fresh_s", "stale_write_s")
        self._keep_order("stale_write_s", "stale_read_s")


class RetryPolicy(_Policy):
    """How a call to a provider is repeated if the provider could not answer.

    Args:
        attempts: How many calls at most, including the first one.
        deadline_s: How many seconds a caller waits at most, including all attempts.
        wait_min_s: The shortest random wait between two attempts, in seconds.
        wait_max_s: The longest.

    Raises:
        TypeError: A field is not a number; the message names it.
        ValueError: A field has a value that is not allowed; the message names it.
    """

    __slots__ = ("attempts", "deadline_s", "wait_min_s", "wait_max_s")  # noqa: RUF023 - in the order of __init__

    attempts: int
    deadline_s: float
    wait_min_s: float
    wait_max_s: float

    @redact_frames
    def __init__(
        self,
        attempts: int = 4,
        deadline_s: float = 8.0,
        wait_min_s: float = 0.1,
        wait_max_s: float = 2.0,
    ) -> None:
        self._set("attempts", attempts, whole=True)
        self._set("deadline_s", deadline_s)
        self._set("wait_min_s", wait_min_s, may_be_zero=True)
        self._set("wait_max_s", wait_max_s, may_be_zero=True)
        self._keep_order("wait_min_s", "wait_max_s")
