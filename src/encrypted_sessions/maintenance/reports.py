"""What a run over a whole store found and did. Frozen; no report holds a key, a plaintext or a token.

Times are seconds since 1970 in UTC. Counts are of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Stopped = Literal["interrupted", "limit", "provider", "store"]


@dataclass(frozen=True)
class RowFinding:
    """One row that a person should look at: where it is, what it is, and the kid that it names.

    `row_id` is the primary key, or in Redis the list's key and the place in it, in words. `kid` is
    None where the row names none, or something that is no kid.
    """

    session_id: str
    row_id: str
    outcome: str
    kid: str | None


@dataclass(frozen=True)
class Report:
    """What every run tells.

    `found` counts each row that was looked at under one outcome's name. Rows that a command had no
    reason to open, or could not, are "not_opened". `changed` rows were replaced, or removed; in a
    dry run they would have been. `left` counts rows that this command is there for, or that stand
    in its way, and that are as they were: by reason, told in `LEFT`. `stopped` is None for a run
    that went through the whole store, and `stopped_because` says why it did not. `findings` are up
    to 20 rows. `notices` are sentences for whoever runs it.
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
    """What the store could not do to make gone what was removed or replaced, in words."""
    started_at: float
    took_s: float
    dry_run: bool

    @property
    def ok(self) -> bool:
        """Whether nothing was left that should not be: exit code 0, else 1 (3 when interrupted)."""
        return self.stopped is None and not self.incomplete and not any(self.left.values())

    @property
    def seen(self) -> int:
        """Rows that were looked at."""
        return sum(self.found.values())


@dataclass(frozen=True)
class Group:
    """Rows of one kid, envelope version and outcome.

    `kid` and `version` are None where a row has none that could be told. `sessions` is exact up to
    2,048, and beyond that an estimate, off by some 3 %. `oldest` and `newest` are of the tokens'
    timestamps, for plaintext of the rows' created times, None where there is neither; they are
    proven only for "ok", "expired" and "not_yet_valid". `size` is the stored bytes.
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


@dataclass(frozen=True)
class KeyUse:
    """What still needs one key.

    `needed_by` counts the rows that only this key opens: proven ones that have not expired, and all
    that name a disabled key. `unproven` counts rows that name this kid and that nobody opened.
    `newest` is the newest proven timestamp of the rows that need it. `free_from` is when the last
    of these expires: None without a ttl, or where it cannot be told.
    """

    kid: str
    active: bool
    needed_by: int
    unproven: int
    newest: int | None
    free_from: int | None


@dataclass(frozen=True)
class InventoryReport(Report):
    """What is in a store, under which keys, how old. `conclusion` is what an operator wants to know.

    `proven` is False when it was made without keys: then labels were counted, and labels prove nothing.
    """

    groups: tuple[Group, ...]
    keys: tuple[KeyUse, ...]
    active_kid: str | None
    ttl: int | None
    proven: bool
    conclusion: str

    @property
    def ok(self) -> bool:
        """Whether the whole store was looked at. What it found is for the reader to judge."""
        return self.stopped is None


@dataclass(frozen=True)
class VerifyReport(Report):
    """Whether every row is in order. `left` counts those that are not, by outcome."""

    active_kid: str | None


@dataclass(frozen=True)
class PurgeReport(Report):
    """What was removed because it is authentic and expired."""

    ttl: int


@dataclass(frozen=True)
class ReencryptReport(Report):
    """What was sealed again under the active key. `already` rows were under it before, by their label."""

    to_kid: str | None
    from_kid: str | None
    already: int


@dataclass(frozen=True)
class EncryptReport(Report):
    """What was plaintext, or of the SDK's class, and is sealed under the active key now."""

    to_kid: str | None
    plaintext: int
    upstream: int


@dataclass(frozen=True)
class DiscardReport(Report):
    """What was removed although nobody can read it, after it was written to `export`."""

    outcome: str
    export: str | None


@dataclass(frozen=True)
class EraseReport(Report):
    """What was erased of the named sessions, per table or kind of key. `missing` had no trace at all."""

    erased: Mapping[str, int]
    sessions: int
    missing: tuple[str, ...]


#: Reasons in `Report.left` that are no outcome's name, and what each means.
LEFT: Mapping[str, str] = {
    "changed_meanwhile": "somebody else changed or removed them during the run; run the command again",
    "former_key": "the active key changed during the run, and they are under the one before; run the command again",
    "key_not_answered": "the key's place refused to answer for their key; see the notices",
    "key_not_asked": "too many keys were asked for that do not exist; somebody may be writing made-up key ids",
    "not_exact": "plaintext that JSON cannot give back as it is (NaN, an infinity), or of a session id that is no text",
    "sessions_refused": "the store does not let these sessions be erased, see the notices; they are as they were",
    "written_meanwhile": "somebody wrote to these sessions while they were erased; stop that, and erase them again",
}
