"""What a user of Redis may do, as far as its errors tell."""

from __future__ import annotations

import re

from redis import exceptions

from ...errors import StoreError

__all__ = ["MissingRightError", "forbids_scripts", "missing_right", "stopped_a_script"]

_NO_COMMAND = re.compile(r"no permissions to run the '([\w|.-]+)' command")
_NO_KEY = re.compile(r"no permissions to access (a key|one of the keys)", re.IGNORECASE)
_UNKNOWN = re.compile(r"(?:unknown|unsupported) command:? *[`'\"]?([\w|.-]*)", re.IGNORECASE)
# A script may be run, and what it calls may not: Redis before 7.2 does not say what that was.
_IN_A_SCRIPT = re.compile(r"ACL failure in script|user executing the script can't run", re.IGNORECASE)

_ALL_RIGHTS = "docs/redis.md lists the rights that a session needs"


class MissingRightError(StoreError, exceptions.NoPermissionError):
    """A user of Redis who may not do what a session needs, or a server that does not know it."""


def forbids_scripts(error: exceptions.ResponseError) -> bool:
    """Whether it was that no script may be run."""
    words = str(error)
    command = None if _IN_A_SCRIPT.search(words) else _NO_COMMAND.search(words) or _UNKNOWN.search(words)
    return command is not None and command[1].lower() in ("eval", "")


def stopped_a_script(error: exceptions.ResponseError) -> bool:
    """Whether it was that a script may not run what it calls."""
    return bool(_IN_A_SCRIPT.search(str(error)))


def missing_right(error: exceptions.ResponseError) -> MissingRightError | None:
    """The error that names the right that was missing; None where it was something else."""
    words = str(error)
    if command := _NO_COMMAND.search(words):
        name = command[1]
        return MissingRightError(
            f"the Redis user of this session may not run {name.upper()}: ACL SETUSER ... +{name.lower()}. {_ALL_RIGHTS}"
        )
    if _NO_KEY.search(words):
        return MissingRightError(
            "the Redis user of this session may not use its keys, which begin with the session's key_prefix:"
            f" the SDK's keys, and the notes beside its list. ACL SETUSER ... ~PREFIX:*. {_ALL_RIGHTS}"
        )
    if "EXEC without MULTI" in words:
        return MissingRightError(
            f"the Redis user of this session may run neither EVAL nor MULTI: ACL SETUSER ... +multi. {_ALL_RIGHTS}"
        )
    if command := _UNKNOWN.search(words):
        name = command[1].upper() or "a command"
        return MissingRightError(
            f"the Redis server, or a proxy in front of it, does not know {name}. Without EVAL, a session needs"
            f" WATCH, MULTI and EXEC. {_ALL_RIGHTS}"
        )
    return None
