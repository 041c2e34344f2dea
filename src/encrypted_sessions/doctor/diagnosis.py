"""What an examination of keys finds, step by step."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from keyproviders import CachePolicy, RetryPolicy

__all__ = ["Check", "Diagnosis", "Status"]

Status = Literal["ok", "failed", "not tried"]


class Check(NamedTuple):
    """One step: what was looked at, how it ended, how long it took, and what to do if it failed.

    `name` is one of `packages`, `open`, `fetch`, `look up`, `seal and read`, and `age` where that is limited. `found`
    says in words what came out; `error` is the name of the error's class. `took_s` is in
    seconds, None for a step that was not tried. `advice` is None unless the step failed.
    """

    name: str
    status: Status
    found: str
    took_s: float | None = None
    error: str | None = None
    advice: str | None = None


class Diagnosis(NamedTuple):
    """What was found. It holds no secret, and nothing of the URL but what the provider itself shows.

    `place` and `kid` are None where it did not get so far. `key_age_s` is None when the place
    does not say when the key was made. `remarks` are sentences of the provider about its place, and
    `warnings` what it warned of, or the doctor does; neither makes a diagnosis a bad one. `cache` and `retry` are
    the numbers that the ring goes by in an outage.
    """

    checks: tuple[Check, ...]
    place: str | None
    kid: str | None
    key_created_at: datetime | None
    key_age_s: float | None
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    cache: CachePolicy
    retry: RetryPolicy

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.status == "ok" for check in self.checks)
