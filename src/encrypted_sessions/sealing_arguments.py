"""What public names accept about suites, realms and padding, checked where it enters."""

from __future__ import annotations

from . import arguments
from .core.cipher import VERSIONS
from .history.sealing import FIRST_SUITE, Sealing

__all__ = ["realm", "sealing", "suite"]

_LONGEST_REALM = 1024


def sealing(
    suite_given: object,
    oldest_suite: object,
    realm_given: object,
    pad: object,
    encryption_key: object,
    upstream_key: object,
) -> Sealing:
    """How a session seals and opens, from what it was given. Without a suite it is the first one, for whatever key.

    Raises TypeError and ValueError.
    """
    written = FIRST_SUITE if suite_given is None else suite(suite_given, "suite")
    oldest = suite(oldest_suite, "oldest_suite")
    if type(pad) is not bool:
        raise TypeError(f"pad must be True or False, not {arguments.kind_of(pad)}")
    found = Sealing(written, oldest, realm(realm_given), pad=pad)
    if written > FIRST_SUITE and isinstance(encryption_key, str):
        raise ValueError(
            f"suite={written} needs a KeyRing: with a string as key, rows are always in the format of the Agents"
            f" SDK's own class, which is suite {FIRST_SUITE}"
        )
    if oldest > FIRST_SUITE and (upstream_key is not None or isinstance(encryption_key, str)):
        given = "an encryption_key that is a string" if upstream_key is None else "upstream_key"
        raise ValueError(
            f"oldest_suite={oldest} leaves out everything that {given} opens, which is of suite {FIRST_SUITE}."
            " Use it only in sessions with a KeyRing, once `encrypted-sessions inventory` finds no such row"
        )
    if oldest > written:
        raise ValueError(
            f"oldest_suite={oldest} is above suite={written}: the session would not read what it writes."
            f" Give suite={oldest}"
        )
    return found


def suite(value: object, argument: str) -> int:
    """The version of a suite."""
    if type(value) is not int:
        raise TypeError(f"{argument} must be {_VERSIONS}, not {arguments.kind_of(value)}")
    if value not in VERSIONS:
        raise ValueError(f"{argument} must be {_VERSIONS}, not {value}")
    return value


def realm(value: object) -> str:
    """A str of at most 1,024 bytes of UTF-8, without NUL; perhaps empty."""
    if not isinstance(value, str):
        raise TypeError(f"realm must be a str, not {arguments.kind_of(value)}")
    if "\0" in value:
        raise ValueError("realm contains a NUL character")
    try:
        length = len(value.encode("utf-8"))
    except UnicodeEncodeError:  # holds the text: an error raised in here would carry it along
        length = -1
    if length < 0:
        raise ValueError("realm contains a lone surrogate, which UTF-8 cannot hold")
    if length > _LONGEST_REALM:
        raise ValueError(f"realm must have at most {_LONGEST_REALM:,} bytes of UTF-8, not {length:,}")
    return value


_VERSIONS = " or ".join(map(str, VERSIONS))
