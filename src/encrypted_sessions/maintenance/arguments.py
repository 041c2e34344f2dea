"""What the commands accept, checked where it enters. Messages never show a secret."""

from __future__ import annotations

from collections.abc import Callable, Collection
from os import PathLike, fspath
from typing import TypeVar

from keyproviders import KeyRing, parse_kid

from .. import arguments as checks
from .. import sealing_arguments
from .._support.unset import UNSET
from ..arguments import kind_of
from ..core.envelope import UPSTREAM_KID
from ..stores.whole import WholeStore
from .progress import Progress
from .realms import BINDS_NO_REALM, Realms
from .run import Settings
from .session_filter import session_filter

__all__ = [
    "discardable",
    "expected",
    "file",
    "flag",
    "keys",
    "kid",
    "kids",
    "new_file",
    "refuse_kids_of_none",
    "retention",
    "settings",
    "store",
    "suite",
]

#: Rows of one batch at most: a page of rows and its changes are in memory at once.
_MOST_IN_A_BATCH = 10_000

#: What may be discarded: nobody can read it now, or nobody knows who wrote it.
DISCARDABLE = (
    "erased",
    "expired_unverified",
    "late_key",
    "malformed",
    "not_yet_valid",
    "plaintext",
    "unauthentic",
    "unknown_key",
    "unsupported",
)
#: A row with a picture of 3 MiB is some 5.6 MB.
DEFAULT_MAX_ROW_BYTES = 64 * 2**20

_NOT_DISCARDABLE = {
    "ok": "it can be read; to remove whole sessions, use erase",
    "expired": "purge removes it, without an export",
    "too_large": "it was not read; raise max_row_bytes (--max-row-bytes)",
    "key_disabled": "its key may come back; enable the key, or destroy it permanently, which makes it erased",
}

_Callable = TypeVar("_Callable", bound=Callable[..., object])


def store(value: object) -> WholeStore:
    """A store from `open_store`."""
    if not isinstance(value, WholeStore):
        raise TypeError(f"store must be what open_store(url) returns, entered with 'async with', not {kind_of(value)}")
    return value


def keys(value: object) -> tuple[KeyRing, ...]:
    """A key ring, or several: the first has the key to seal with, and all are read."""
    if not isinstance(value, (list, tuple)):
        return (checks.key_ring(value, "keys"),)
    if not value:
        raise ValueError("keys is empty; give a KeyRing, or a list of them, of which the first one seals")
    return tuple(checks.key_ring(one, "each of keys") for one in value)


def settings(
    *,
    ttl: object = None,
    upstream_key: object = None,
    upstream_until: object = None,
    batch: object = 500,
    limit: object = None,
    dry_run: object = False,
    max_row_bytes: object = DEFAULT_MAX_ROW_BYTES,
    allow_triggers: object = (),
    replica_wait_s: object = 60.0,
    only_kids: object = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
    sessions: object = None,
    session_prefix: object = None,
    realm: object = "",
) -> Settings:
    """The arguments that all commands share."""
    ends_at = checks.moment(upstream_until, "upstream_until")
    if ends_at is not None and upstream_key is None:
        raise ValueError("upstream_until goes with upstream_key")
    return Settings(
        checks.ttl(ttl),
        None if upstream_key is None else checks.key_string(upstream_key, "upstream_key"),
        ends_at,
        _count(batch, "batch", _MOST_IN_A_BATCH),
        None if limit is None else _count(limit, "limit"),
        flag(dry_run, "dry_run"),
        _count(max_row_bytes, "max_row_bytes", of="bytes"),
        _names(allow_triggers, "allow_triggers"),
        checks.seconds(replica_wait_s, "replica_wait_s"),
        None if progress is None else _callable(progress, "progress"),
        _never if stop is None else _callable(stop, "stop"),
        session_filter(sessions, session_prefix),
        kids=kids(only_kids, "kids"),
        realms=Realms(realm),
    )


def suite(value: object, ttl: object, realms: Realms) -> tuple[int | None, int | None]:
    """The suite that rows come into (None: each stays in its own), and how long those live that have no end."""
    if value is not None:
        value = sealing_arguments.suite(value, "suite")
    if value is None or value == BINDS_NO_REALM:
        if ttl is not UNSET:
            raise ValueError("ttl goes with suite=2 (--suite 2): it sets the end of rows that come from suite 1")
        if value is not None and realms.always != ("",):
            raise ValueError(
                f"suite={value} does not allow a realm: its keys do not depend on one, so rows of one realm"
                " would open in every other realm with the same key"
            )
        return value, None
    if ttl is UNSET:
        raise ValueError(
            f"suite={value} needs ttl= (--ttl): rows of suite 1 have no end of their own, and get an end that"
            " many seconds after they were sealed; None (--ttl none) for never"
        )
    if realms.always is not None and len(realms.always) > 1:
        raise ValueError(
            f"suite={value} allows one realm, which rows of suite 1 get, not {len(realms.always)}; if it depends"
            " on the session, give realm= a function of its id, or run it separately for the sessions of each realm"
        )
    return value, checks.ttl(ttl)


def retention(value: object) -> int:
    """A ttl that must be said."""
    ttl = checks.ttl(value)
    if ttl is None:
        raise TypeError("ttl must be an int of seconds, not None: without one nothing expires")
    return ttl


def kid(value: object, argument: str) -> str | None:
    """The public id of a key, the SDK's included, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str (a kid, as inventory shows them) or None, not {kind_of(value)}")
    if value != UPSTREAM_KID and parse_kid(value) is None:
        raise ValueError(
            f"{argument} must be a kid as inventory shows them (name~fingerprint), not a str of {len(value)} characters"
        )
    return value


def kids(value: object, argument: str) -> tuple[str, ...]:
    """The public ids of some keys, each once; () for None, which stands for all keys."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"{argument} must be a list of kids, as inventory shows them, or None, not {kind_of(value)}")
    named = [kid(one, argument) for one in value]
    if not named:
        raise ValueError(f"{argument} is empty; name at least one kid, or give None for every key")
    if None in named:
        raise TypeError(f"{argument} must be a list of kids, each a str, not of None")
    return tuple(dict.fromkeys(one for one in named if one is not None))


def flag(value: object, argument: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, not {kind_of(value)}")
    return value


def expected(value: object) -> int | None:
    """A number of sessions, or None."""
    return None if value is None else _count(value, "expect", of="sessions", least=0)


def new_file(value: object, argument: str, *, needed: bool) -> str | None:
    """The path of a file, None only where none is needed. Whether it exists is seen when it is made."""
    return None if value is None and not needed else _path(value, argument, "a file that does not exist yet")


def file(value: object, argument: str) -> str:
    """The path of a file to read."""
    return _path(value, argument, "a file")


def discardable(outcome: object, ttl: int | None, *, all_realms_given: object = False) -> str:
    """The name of an outcome that may be discarded. Raises TypeError or ValueError, with the reason, for another."""
    if not isinstance(outcome, str):
        raise TypeError(f"outcome must be one of {', '.join(DISCARDABLE)}, not {type(outcome).__name__}")
    if outcome in _NOT_DISCARDABLE:
        raise ValueError(f"outcome {outcome!r} cannot be discarded: {_NOT_DISCARDABLE[outcome]}")
    if outcome not in DISCARDABLE:
        raise ValueError(f"outcome must be one of {', '.join(DISCARDABLE)}, not a str of {len(outcome)} characters")
    if outcome == "expired_unverified" and ttl is None:
        raise ValueError("outcome 'expired_unverified' needs ttl=: without one nothing of suite 1 counts as expired")
    if flag(all_realms_given, "all_realms_given") and outcome != "unauthentic":
        raise ValueError("all_realms_given (--all-realms-given) goes only with the outcome 'unauthentic'")
    return outcome


def refuse_kids_of_none(outcome: str, named: Collection[str]) -> None:
    """Raise ValueError where rows of that outcome name no key, so that keys choose none of them."""
    if named and outcome in ("malformed", "plaintext", "unsupported"):
        raise ValueError(f"rows of the outcome {outcome!r} do not name a key, so kids= (--kid) selects none of them")


def _path(value: object, argument: str, of: str) -> str:
    if not isinstance(value, (str, PathLike)):
        raise TypeError(f"{argument} must be the path of {of}, not {kind_of(value)}")
    path = fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"{argument} must be the path of a file as a str, not {kind_of(path)}")
    if not path:
        raise ValueError(f"{argument} is empty; give the path of {of}")
    return path


def _count(value: object, argument: str, most: int | None = None, *, of: str = "rows", least: int = 1) -> int:
    if type(value) is not int:
        raise TypeError(f"{argument} must be an int of {of}, not {kind_of(value)}")
    if value < least or (most is not None and value > most):
        raise ValueError(
            f"{argument} must be {f'{least} or more' if most is None else f'from 1 to {most}'}, not {value}"
        )
    return value


def _names(value: object, argument: str) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"{argument} must be a list of names, not {kind_of(value)}")
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"{argument} must be a list of names, each a str, not of {kind_of(name)}")
    return frozenset(value)


def _callable(value: _Callable, argument: str) -> _Callable:
    if not callable(value):
        raise TypeError(f"{argument} must be callable or None, not {kind_of(value)}")
    return value


def _never() -> bool:
    return False
