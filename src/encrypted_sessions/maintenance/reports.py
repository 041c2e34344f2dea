"""What a run over a whole store found and did. Frozen; no report holds a key, a plaintext or a token.

Times are seconds since 1970 in UTC. Counts are of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "LEFT",
    "AgeBucket",
    "DiscardReport",
    "EncryptReport",
    "EraseReport",
    "Group",
    "InventoryReport",
    "KeyUse",
    "PurgeReport",
    "PutBackReport",
    "ReencryptReport",
    "ReplicaState",
    "Report",
    "RowFinding",
    "Stopped",
    "VerifyReport",
]

Stopped = Literal["expect", "interrupted", "limit", "provider", "realm", "store"]


@dataclass(frozen=True)
class RowFinding:
    """One row that a person should look at: where it is, what it is, and the kid that it names.

    Attributes:
        session_id: The session that the row is in.
        row_id: The primary key, or in Redis the list's key and the place in it, as text.
        outcome: What the row is.
        kid: The kid that it names; None if it names none, or something that is not a kid.
    """

    session_id: str
    row_id: str
    outcome: str
    kid: str | None


@dataclass(frozen=True)
class ReplicaState:
    """A server that follows the store's, and whether it has what the store had at the end of the run.

    Attributes:
        name: What it is and where, in words.
        replayed: Whether it has replayed all of that.
        missing: How many bytes of the log it lacks; None where it has all, or nobody knows.
        to_do: What helps where it has not replayed it; None where it has.
    """

    name: str
    replayed: bool
    missing: int | None
    to_do: str | None


@dataclass(frozen=True)
class Report:
    """What every run reports.

    Attributes:
        store: Where the store is, without a password.
        found: Each row that was looked at, counted under one outcome's name. Rows that a command had
            no reason to open, or could not, are "not_opened".
        changed: Rows that were replaced, or removed; in a dry run, that would have been.
        left: Rows that this command is there for, or that stand in its way, and that are as they were,
            by reason. `LEFT` explains the reasons that are not outcomes.
        stopped: None for a run that went through the whole store.
        stopped_because: Why it did not.
        findings: Up to 20 of the rows that were left.
        notices: Sentences for whoever runs it.
        incomplete: What the store could not do to make gone what was removed or replaced, in words.
        replicas: Servers that follow the store's own, of those that it knows. They are looked at by what changes rows,
            and before a key is called free.
        replicas_unseen: Why not all of these could be seen, and what would help; None where they were.
        started_at: When the run began.
        took_s: How long it took, in seconds.
        dry_run: Whether changes were only counted.
        only: The sessions that the run was limited to, in words; None for all.
        kids: The keys that the run was limited to; () for all.
        other_keys: Rows of keys that it was not there for, by the kid that they name; what is not a kid, and what
            comes after the first 300 of them, counts as "others".
    """

    store: str
    found: Mapping[str, int]
    changed: int
    left: Mapping[str, int]
    stopped: Stopped | None
    stopped_because: str | None
    findings: tuple[RowFinding, ...]
    notices: tuple[str, ...]
    incomplete: tuple[str, ...]
    replicas: tuple[ReplicaState, ...]
    replicas_unseen: str | None
    started_at: float
    took_s: float
    dry_run: bool
    only: str | None = field(default=None, kw_only=True)
    kids: tuple[str, ...] = field(default=(), kw_only=True)
    other_keys: Mapping[str, int] = field(default_factory=dict, kw_only=True)

    @property
    def ok(self) -> bool:
        """Whether nothing was left that should not be: exit code 0, else 1 (3 when interrupted)."""
        return self.stopped is None and not self.incomplete and not self.replicas_behind and not any(self.left.values())

    @property
    def replicas_behind(self) -> tuple[ReplicaState, ...]:
        """Those of the replicas that have an older state of the store."""
        return tuple(replica for replica in self.replicas if not replica.replayed)

    @property
    def seen(self) -> int:
        """Rows that were looked at."""
        return sum(self.found.values())


@dataclass(frozen=True)
class Group:
    """Rows of one kid, envelope version and outcome.

    Attributes:
        kid: The kid that these rows name; None where they name none that is one.
        version: The envelope's version; None for what is not an envelope.
        outcome: What these rows are.
        items: How many there are.
        sessions: In how many sessions: exact up to 2,048, and beyond that an estimate, off by some 3 %.
        sessions_exact: Whether `sessions` is exact.
        oldest: The oldest of the tokens' timestamps, for plaintext of the rows' created times; None
            where there is neither. It is proven only for "ok", "expired" and "not_yet_valid".
        newest: The newest of them, likewise.
        size: The stored bytes.
        end: When the last of them expires, by what its writer said and by the ttl of the run; None where one of them
            never does. Proven as the times before.
    """

    kid: str | None
    version: int | None
    outcome: str
    items: int
    sessions: int
    sessions_exact: bool
    oldest: int | None
    newest: int | None
    size: int
    end: int | None = None


@dataclass(frozen=True)
class AgeBucket:
    """Rows of one kid and outcome that were sealed in one span of time; there are at most 120 spans.

    Attributes:
        start: When the span begins: a multiple of its length, which is a day, or as many days as 2, 4, 8 …
        end: When it ends, and the next begins.
        kid: As of `Group`.
        outcome: As of `Group`. Where the time is not proven, it is what the row claims, and what claims to be from
            long before or after the others counts in the first or last span.
        items: How many there are.
    """

    start: int
    end: int
    kid: str | None
    outcome: str
    items: int


@dataclass(frozen=True)
class KeyUse:
    """What still needs one key.

    Attributes:
        kid: The key's public id.
        active: Whether it is the ring's active key.
        needed_by: Rows that only this key opens: proven ones that have not expired, all that name a
            disabled key, and those that name another key.
        unproven: Rows that name this kid and that nobody opened.
        newest: The newest proven timestamp of the rows that need it.
        free_from: When the last of these expires; None where one never does, or nobody can say.
        mislabelled: Those of `needed_by` that name another key: somebody changed their labels.
        proven: Whether each row that was seen and names it was opened, or needs no key: else the numbers are what
            labels claim.
        expired: Rows that it opens and that have expired: they do not need it, and only with it are they purged.
    """

    kid: str
    active: bool
    needed_by: int
    unproven: int
    newest: int | None
    free_from: int | None
    mislabelled: int = 0
    proven: bool = False
    expired: int = 0


@dataclass(frozen=True)
class InventoryReport(Report):
    """What is in a store, under which keys, how old.

    Attributes:
        groups: Rows by kid, version and outcome.
        keys: What needs each key.
        active_kid: The ring's active key; None without keys.
        ttl: The ttl that rows were measured against.
        proven: False when it was made without keys: then labels were counted, and labels prove nothing.
        conclusion: What an operator wants to know, in sentences.
        required_free: The kids on which nothing may depend, as they were given.
        not_free: Those of them of which that cannot be said, and why, in words.
        free: The keys that nothing needs, the active one aside: only where every row of the store was opened, nothing
            leaves in doubt what it needs, and no replica has an older state. Each process has to write with the
            active key by then, as `conclusion` says.
        ages: When rows were sealed, by kid and outcome, the oldest first.
        sentences: `conclusion`, sentence by sentence.
        suites: Rows by the suite that their envelope names.
    """

    groups: tuple[Group, ...]
    keys: tuple[KeyUse, ...]
    active_kid: str | None
    ttl: int | None
    proven: bool
    conclusion: str
    required_free: tuple[str, ...] = ()
    not_free: Mapping[str, str] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    ages: tuple[AgeBucket, ...] = ()
    sentences: tuple[str, ...] = ()
    suites: Mapping[int, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the whole store was looked at, and no row and no replica leaves in doubt what it needs.

        That is a row that is unauthentic, or `late_key`, or too large, or whose key's place refused to answer. What
        else it found is for the reader to judge.
        And whether each key that was to be free is.
        """
        in_doubt = ("key_not_answered", "late_key", "mislabelled", "sessions_missing", "too_large", "unauthentic")
        has_doubts = any(self.left.get(reason) for reason in in_doubt)
        return self.stopped is None and not self.replicas_behind and not has_doubts and not self.not_free


@dataclass(frozen=True)
class VerifyReport(Report):
    """Whether every row is in order. `left` counts those that are not, by outcome.

    Attributes:
        active_kid: The ring's active key.
        erased: The rows that name destroyed keys, by kid and version. Nobody can check them any more, so that whoever
            writes to the store can hide a row among them: see whether their number and times are as they should be.
    """

    active_kid: str | None
    erased: tuple[Group, ...] = ()


@dataclass(frozen=True)
class PurgeReport(Report):
    """What was removed because it is authentic and expired.

    Attributes:
        ttl: The ttl that rows were measured against.
        export: The path of the file that they were written to; None where nothing was written.
    """

    ttl: int
    export: str | None = None


@dataclass(frozen=True)
class ReencryptReport(Report):
    """What was sealed again under the active key.

    Attributes:
        to_kid: The active key; None if the run did not come so far.
        from_kid: The key that it was limited to, if it was one alone.
        already: Rows that were under the active key before, and in the suite that was asked for, by their label.
        moved: Rows that were sealed again, or in a dry run would be, by the key that they were under.
        suite: The suite that all rows came into; None where each stayed in its own.
        suites: The same rows as `moved` has, by the suite that they were of.
    """

    to_kid: str | None
    from_kid: str | None
    already: int
    moved: Mapping[str, int] = field(default_factory=dict)
    suite: int | None = None
    suites: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EncryptReport(Report):
    """What was plaintext, or of the SDK's class, and is sealed under the active key now.

    Attributes:
        to_kid: The active key; None if the run did not come so far.
        plaintext: Rows that were plaintext.
        upstream: Rows that the SDK's class had sealed.
    """

    to_kid: str | None
    plaintext: int
    upstream: int

    @property
    def ok(self) -> bool:
        """The same; and a dry run that found something to seal has left it."""
        return super().ok and not (self.dry_run and self.changed)


@dataclass(frozen=True)
class DiscardReport(Report):
    """What was removed, after it was written to a file.

    Attributes:
        outcome: What these rows were.
        export: The file's path; None where nothing was written.
    """

    outcome: str
    export: str | None


@dataclass(frozen=True)
class EraseReport(Report):
    """What was erased of the named sessions.

    Attributes:
        erased: Rows per table or kind of key.
        sessions: How many of the sessions there was a trace of.
        named: The sessions that are there, and those that stand in the file `report`: what `expect` is compared with.
        missing: Those of which there was none, up to 1,000 of them.
        not_reached: Where else there may be copies, which no command reaches, in words.
        report: The path of the file that says what was erased; None where none was named.
        export: The path of the file that their rows were written to, a copy that remains; None where nothing was
            written.
    """

    erased: Mapping[str, int]
    sessions: int
    named: int
    missing: tuple[str, ...]
    not_reached: tuple[str, ...]
    report: str | None
    export: str | None = None


@dataclass(frozen=True)
class PutBackReport(Report):
    """What was put back from a file. `changed` counts what was put back now.

    Attributes:
        export: The file's path.
        already: Rows of the file that lay in their places before, with the same bytes.
    """

    export: str
    already: int


#: Reasons in `Report.left` that are no outcome's name, and what each means.
LEFT: Mapping[str, str] = {
    "changed_meanwhile": "somebody else changed or removed them during the run; run the command again",
    "former_key": "the active key changed during the run, and they are under the one before; run the command again",
    "in_another_realm": (
        "of suite 2, and they open in no realm that was given: altered, or of another realm; give every --realm that"
        " there is, and then --all-realms-given removes them"
    ),
    "key_not_answered": "the key's place refused to answer for their key; see the notices",
    "key_not_asked": "too many keys were named that do not exist; somebody may be writing made-up key ids",
    "mislabelled": "they name a key that does not open them, and another one does: somebody changed their labels",
    "not_exact": "plaintext that JSON cannot represent exactly (NaN, an infinity), or its session id is not text",
    "place_ahead": (
        "their primary key is higher than any that the database has given, so that it would give it again; it was put"
        " back from an older state: raise its sequence (setval), then run it again"
    ),
    "place_taken": "something else lies under their primary key by now; they stay in the file",
    "sessions_missing": "sessions that were named, and are not there; see how their ids are written",
    "sessions_refused": "the store does not let these sessions be erased, see the notices; they are as they were",
    "unverified": (
        "they do not open, see what was found; add the key, its place or the realm; --unverified puts them back so"
    ),
    "written_meanwhile": "somebody wrote to these sessions while they were erased; stop that, and erase them again",
}
