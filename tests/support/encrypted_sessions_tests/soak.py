"""How often tests of kills, races and load do it again, and by which seed.

Every run has one cheap case of each such test. The others are marked `soak` and are left to `make test-soak`, which
does a tenth of what the test says, or with `ROUNDS=full` all of it; then also whole matrices over stores that share a
part of this library.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from typing import Any

import pytest

FULL = os.environ.get("ENCRYPTED_SESSIONS_ROUNDS") == "full"
#: What is tried is other packages, and not each property anew.
FEW_EXAMPLES = os.environ.get("ENCRYPTED_SESSIONS_EXAMPLES") == "few"
SEED_VARIABLE = "ENCRYPTED_SESSIONS_SEED"

_FEW = 2

#: Kinds of sessions whose rows another kind's part of this library serves, too. What each store must do is shown on
#: these as well by the conformance suites and by the matrix of stores.
_SERVED_BY_ANOTHERS = frozenset({"async-sqlite", "sqlalchemy-sqlite", "advanced-sqlite"})


def examples(many: int) -> int:
    """For how many examples a property is tried: so many, or a fifth of them for `make test-lowest`."""
    return max(many // 5, 1) if FEW_EXAMPLES else many


def one_cheap_and_soak(values: Iterable[Any]) -> list[Any]:
    """Parameters: the first value for every run, and each of them for `make test-soak`."""
    all_of_them = list(values)
    cheap = pytest.param(all_of_them[0], id=f"{all_of_them[0]}, few rounds")
    return [cheap, *(pytest.param(value, id=str(value), marks=pytest.mark.soak) for value in all_of_them)]


def with_full(always: Iterable[Any], full: Iterable[Any]) -> list[Any]:
    """Parameters: those for every run, and those that `make test-soak ROUNDS=full` adds."""
    return [*always, *(pytest.param(value, id=str(value), marks=pytest.mark.soak) for value in full if FULL)]


def distinct(kinds: Iterable[str]) -> list[Any]:
    """Parameters for a whole matrix: each kind that a part of its own serves, and with ROUNDS=full the others, too."""
    kinds = list(kinds)
    return with_full(
        (kind for kind in kinds if kind not in _SERVED_BY_ANOTHERS),
        (kind for kind in kinds if kind in _SERVED_BY_ANOTHERS),
    )


def is_soak(request: pytest.FixtureRequest) -> bool:
    """Whether this test is one of many rounds."""
    return request.node.get_closest_marker("soak") is not None


class Rounds:
    """How many rounds a test does: `rounds.of(100)`."""

    def __init__(self, *, many: bool) -> None:
        self.many = many
        """Whether there are enough for what is only likely to have happened."""

    def of(self, full: int) -> int:
        """Of so many in all."""
        if not self.many:
            return _FEW
        return full if FULL else max(full // 10, _FEW)


class Seed(int):
    """Where random moments come from. It shows how to have them again."""

    @classmethod
    def of(cls, test: str) -> Seed:
        """The same for a test in every process and on every machine, unless the environment says another one."""
        return cls(os.environ.get(SEED_VARIABLE) or zlib.crc32(test.encode()))

    def how_to_replay(self, test: str) -> str:
        return f"the same fractions of the time that was measured: {SEED_VARIABLE}={self:d} pytest '{test}'"
