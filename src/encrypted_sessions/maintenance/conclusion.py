"""What an inventory means, in sentences: which keys nothing depends on any more, and what that assumes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone

from keyproviders import CachePolicy

from .._support.durations import format_option
from .key_uses import IN_DOUBT, of_further_keys
from .reports import Group, KeyUse, ReplicaState

__all__ = ["ENDED_EARLY", "LABELS_ONLY", "NOT_COMPLETE", "conclude"]

_SHOWN = 5

LABELS_ONLY = (
    "These are the labels that rows carry, and labels are not proof: whoever can write to the store can write any"
    " label, and no row was opened. Run it with the keys to learn which keys nothing depends on any more"
)
NOT_COMPLETE = (
    "The run did not get through the whole store, so it cannot be said which keys nothing depends on any more"
)
ENDED_EARLY = (
    "The run ended before it was known whether each replica has the same state, so it cannot be said which keys"
    " nothing depends on any more"
)
OTHERS_NOT_OPENED = (
    "Only some rows were opened, as was asked for. Other rows may need these keys, whatever their labels say, so it"
    " cannot be said which keys nothing depends on any more; an inventory of the whole store can say it"
)


def conclude(
    groups: Sequence[Group],
    keys: Sequence[KeyUse],
    *,
    unauthentic: int,
    active_kid: str | None,
    ttl: int | None,
    started_at: float,
    is_limited: bool = False,
    replicas: Sequence[ReplicaState] = (),
    has_seen_all: bool = True,
) -> list[str]:
    """The sentences, without their full stops, for a run that opened what it could and went through the whole store.

    `unauthentic` rows are those that no key at hand opens, though the one that they name is there. Of `replicas`, one
    that is behind needs the keys of the rows that it has, whatever the store needs. A run that was `is_limited` to some
    keys or sessions knows nothing of other rows, and a label is no proof.
    """
    needed = [use for use in keys if use.needed_by and not use.active]
    doubts = _doubts(groups, unauthentic)
    sentences = [_still_needed(use, ttl, started_at) for use in needed if use.needed_by > use.mislabelled]
    sentences += [_mislabelled(use) for use in keys if use.mislabelled]
    behind = [replica.name for replica in replicas if not replica.replayed]
    others = "any key" if active_kid is None else f"any key but {active_kid}, the active one"
    if needed:
        others = f"any other key but {active_kid}, the active one" if active_kid else "any other key"
    if behind:
        sentences += doubts
        sentences.append(_older_states(behind))
    elif is_limited:
        sentences += doubts
        sentences.append(OTHERS_NOT_OPENED)
    elif doubts:
        sentences += doubts
        sentences.append(f"What could be opened does not depend on {others}")
    else:
        sentences.append(f"Nothing in this store depends on {others}")
    sentences += _expired(groups, active_kid)
    if not behind and not is_limited:
        sentences.append(_assumed(active_kid, ttl, started_at))
        if not has_seen_all:
            sentences.append("Whether each replica has the same state could not be checked (see the note)")
    return sentences


def _still_needed(use: KeyUse, ttl: int | None, now: float) -> str:
    count = use.needed_by - use.mislabelled
    rows = _rows(count)
    if use.newest is None:
        return (
            f"{rows} name{_s(count)} {use.kid}, which is disabled: until it is enabled, nobody can check whether"
            f" {'it needs' if count == 1 else 'they need'} this key, or how old {'it is' if count == 1 else 'they are'}"
        )
    if use.free_from is not None:
        until = f"{_utc(use.free_from)}, when the last of them has expired"
        until += "" if ttl is None else f" (with a ttl of {format_option(ttl)})"
        return f"{rows} need{_s(count)} {use.kid} until {until}; reencrypt frees it now"
    age = timedelta(seconds=max(0, int(now) - use.newest))
    return f"{rows} need{_s(count)} {use.kid}, the youngest {_age(age)} old; reencrypt frees it"


def _mislabelled(use: KeyUse) -> str:
    s = _s(use.mislabelled)
    return (
        f"{_rows(use.mislabelled)} need{s} {use.kid} though the label says another key: somebody changed the label, or"
        " the key has been renamed. No session can read such a row until its label is corrected, and reencrypt does not"
        " free the key; discard removes the row, and keeps a copy"
    )


def _doubts(groups: Sequence[Group], unauthentic: int) -> list[str]:
    doubtful = [group for group in groups if group.outcome in IN_DOUBT]
    unsupported = sum(group.items for group in groups if group.outcome == "unsupported")
    too_large = sum(group.items for group in groups if group.outcome == "too_large")
    late = sum(group.items for group in groups if group.outcome == "late_key")
    doubts = []
    if late:
        doubts.append(
            f"{_rows(late)} {'is' if late == 1 else 'are'} stamped after the key had stopped writing: find out who"
            f" wrote {'it' if late == 1 else 'them'} before you destroy a key"
        )
    if too_large:
        doubts.append(
            f"{_rows(too_large)} {'is' if too_large == 1 else 'are'} larger than max_row_bytes: which keys"
            f" {'it needs' if too_large == 1 else 'they need'} is not known"
        )
    if unauthentic:
        doubts.append(
            f"{_rows(unauthentic)} open{_s(unauthentic)} under no key that this process holds: altered,"
            " or sealed under a key that it has not tried or, of suite 2, in a realm that was not given. Whether that"
            " key is needed is not known"
        )
    if doubtful:
        count = sum(group.items for group in doubtful)
        kids = sorted({group.kid for group in doubtful if group.kid is not None})
        shown = ", ".join(kids[:_SHOWN]) + (f" and {len(kids) - _SHOWN} more" if len(kids) > _SHOWN else "")
        named = f" ({shown})" if kids else ""
        doubts.append(
            f"{_rows(count)} name{_s(count)} keys that this process has no answer for{named}: whether those keys are"
            " needed is not known"
        )
    if further := of_further_keys(groups):
        doubts.append(
            f"{_rows(further)} need{_s(further)} further keys, too many to be counted one by one (see the note): which"
            " of those keys are needed is not known"
        )
    if unsupported:
        doubts.append(
            f"{_rows(unsupported)} come{_s(unsupported)} from a later release: which keys"
            f" {'it needs' if unsupported == 1 else 'they need'} is not known"
        )
    return doubts


def _older_states(names: Sequence[str]) -> str:
    count = len(names)
    shown = ", ".join(names[:_SHOWN]) + (f" and {count - _SHOWN} more" if count > _SHOWN else "")
    has = "A replica has" if count == 1 else f"{count} replicas have"
    return (
        f"{has} an older state of this store, or may have one: {shown}. If one takes over, its rows become the store's,"
        " and which keys they need is not known here, so it cannot be said which keys nothing depends on any more"
    )


def _expired(groups: Iterable[Group], active_kid: str | None) -> list[str]:
    expired = [group for group in groups if group.outcome == "expired" and group.kid != active_kid]
    if not expired:
        return []
    kids = sorted({str(group.kid) for group in expired})
    shown = ", ".join(kids[:_SHOWN]) + (f" and {len(kids) - _SHOWN} more keys" if len(kids) > _SHOWN else "")
    count = sum(group.items for group in expired)
    has, them = ("has", "it") if count == 1 else ("have", "them")
    key = "the key" if len(kids) == 1 else "such a key"
    return [f"{_rows(count)} under {shown} {has} expired: purge {them} before you destroy {key}, not after"]


def _assumed(active_kid: str | None, ttl: int | None, started_at: float) -> str:
    minutes = CachePolicy().stale_write_s / 60
    writes = (
        "no process writes under an older key" if active_kid is None else f"every process writes under {active_kid}"
    )
    sentence = (
        f"This holds for what was in the store at {_utc(started_at)}, and stays true if {writes} from then on. A"
        " process that cannot reach its place of keys may go on writing under the previous key for"
        f" {minutes:g} minutes (stale_write_s). Before you destroy a key, run this again that long after the switch,"
        " and check each backup and each replica that was not connected, by name"
    )
    longer = "" if ttl is None else f". Sessions with a ttl above {format_option(ttl)} need their keys for longer"
    return sentence + longer


def _utc(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} seconds after 1970"


def _age(age: timedelta) -> str:
    return f"{age.days} days" if age.days > 1 else str(age)


def _rows(count: int) -> str:
    return f"{count:,} row" + ("" if count == 1 else "s")


def _s(count: int) -> str:
    return "s" if count == 1 else ""
