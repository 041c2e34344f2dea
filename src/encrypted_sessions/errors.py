"""What sessions and stores raise. What keys raise has a tree of its own: `keyproviders.KeyProviderError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keyproviders import InsecurePermissionsWarning, WeakKeyWarning

from .core.outcomes import EXPLANATIONS, Finding, describe

__all__ = [
    "AuditFailedError",
    "EncryptedSessionError",
    "HistoryChangedError",
    "InsecurePermissionsWarning",
    "LongSessionIdWarning",
    "PurgeRefusedError",
    "PutBackError",
    "ScanBudgetError",
    "StoreConfigError",
    "StoreError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "UnreadableItemsError",
    "WeakKeyWarning",
]


_LONGEST_SHOWN = 100


class EncryptedSessionError(Exception):
    """Parent of everything that an encrypted session raises of its own."""


class UnreadableItemsError(EncryptedSessionError):
    """Rows were found that cannot be returned as items. Nothing was deleted.

    Attributes:
        outcomes: A count of every row that was looked at, by outcome name, "ok" included.
        findings: Up to 20 `Finding(position, outcome, kid)` of the rows in question, newest first.
        session_id: The session whose rows they are; None where the error was made without one.
        store: The class of the session that stores them; None likewise.
    """

    def __init__(
        self,
        message: str,
        *,
        outcomes: Mapping[str, int],
        findings: Sequence[Finding] = (),
        session_id: str | None = None,
        store: str | None = None,
    ) -> None:
        """`message` says what happened and what to do; it quotes no item."""
        super().__init__(message)
        self.outcomes = dict(outcomes)
        self.findings = tuple(findings)
        self.session_id = session_id
        self.store = store

    @classmethod
    def of(
        cls,
        outcomes: Mapping[str, int],
        findings: Sequence[Finding],
        *,
        refused: Mapping[str, int],
        session_id: str,
        store: str,
        advice: Sequence[str] = (),
        consequence: str = "Nothing was returned and nothing was deleted.",
        ways_out: str = (
            "To go on without such rows: on_unreadable='skip', or read(), which returns what can"
            " be read and names the rest."
        ),
        counted_from: str = "the newest row",
    ) -> UnreadableItemsError:
        """The error for rows that were `refused`, by outcome, with what to do about each."""
        count, found = sum(refused.values()), describe(refused)
        lines = [
            (
                f"{count} of {sum(outcomes.values())} stored items cannot be read ({found}), in session"
                f" {_shown(session_id)} of {store}. {consequence}"
            ),
            *(f"  {name}: {EXPLANATIONS[name]}" for name in refused),
        ]
        lines += [f"  {sentence}" for sentence in advice]
        if findings:
            places = ", ".join(finding.place() for finding in findings[:5])
            lines.append(f"  counted from {counted_from} (0): {places}")
        lines.append(f"  {ways_out}")
        return cls("\n".join(lines), outcomes=outcomes, findings=findings, session_id=session_id, store=store)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with its counts and findings when it crosses a process boundary."""
        return _rebuild, (str(self), self.outcomes, self.findings, self.session_id, self.store)


def _rebuild(
    message: str,
    outcomes: Mapping[str, int],
    findings: Sequence[Finding],
    session_id: str | None = None,
    store: str | None = None,
) -> UnreadableItemsError:
    return UnreadableItemsError(message, outcomes=outcomes, findings=findings, session_id=session_id, store=store)


def _shown(session_id: str) -> str:
    """A session's id in a message: nothing that a terminal would obey, and no more than a line of it."""
    return repr(session_id if len(session_id) <= _LONGEST_SHOWN else f"{session_id[:_LONGEST_SHOWN]}…")


class ScanBudgetError(EncryptedSessionError, RuntimeError):
    """`max_scan_items` rows were read and the answer was not complete (upstream: RuntimeError).

    Attributes:
        found: What a search had found until then, as it would have returned it; else empty.
    """

    def __init__(self, message: str, *, found: list[dict[str, Any]] | None = None) -> None:
        """`found` is what a search had found."""
        super().__init__(message)
        self.found = found or []

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with what was found when it crosses a process boundary."""
        return _scan_budget_error, (str(self), self.found)


def _scan_budget_error(message: str, found: list[dict[str, Any]]) -> ScanBudgetError:
    return ScanBudgetError(message, found=found)


class PutBackError(EncryptedSessionError):
    """A store took no item back that `pop_item` had taken from it.

    Attributes:
        stored: That item, as it was stored.
    """

    def __init__(self, message: str, *, stored: object) -> None:
        """`stored` is what the store's own pop_item gave."""
        super().__init__(message)
        self.stored = stored

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with the item when it crosses a process boundary."""
        return _put_back_error, (str(self), self.stored)


def _put_back_error(message: str, stored: object) -> PutBackError:
    return PutBackError(message, stored=stored)


class HistoryChangedError(EncryptedSessionError):
    """The stored history changed under an operation that may not go on then. Nothing was lost."""


class PurgeRefusedError(EncryptedSessionError):
    """A store has expired rows, and no operation that removes these alone. Nothing was removed."""


class LongSessionIdWarning(UserWarning):
    """A session id has more than 64 bytes of UTF-8: another id can have the same session key."""


class StoreError(EncryptedSessionError):
    """A store that cannot be worked on as it is: no tables, no permission, damage."""


class StoreUnavailableError(StoreError):
    """A store that does not answer, or not now: it may work later.

    Whether a change that was under way took place is not known: read the rows again.
    """


class StoreTimeoutError(StoreUnavailableError, TimeoutError):
    """A store that did not answer in time.

    Attributes:
        in_doubt: Whether a change that was asked for may have taken place all the same, or may yet
            take place. False where nothing was to be changed, or certainly nothing was.
    """

    def __init__(self, message: str, *, in_doubt: bool = False) -> None:
        """`message` says which store, what it was asked, and how long was waited."""
        super().__init__(message)
        self.in_doubt = in_doubt

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with its doubt when it crosses a process boundary."""
        return _rebuild_timeout, (type(self), str(self), self.in_doubt)


def _rebuild_timeout(kind: type[StoreTimeoutError], message: str, in_doubt: bool) -> StoreTimeoutError:  # noqa: FBT001 - as pickle gives it
    return kind(message, in_doubt=in_doubt)


class StoreConfigError(StoreError, ValueError):
    """A store that cannot be opened as it was given: its URL, a table's name, an extra that is missing."""


class AuditFailedError(EncryptedSessionError):
    """An operation that an audit log could not write down, which was told to refuse it then.

    Attributes:
        in_doubt: Whether the operation took place, or may have: it was its result that could not be written.
            False where nothing was done.
    """

    def __init__(self, message: str, *, in_doubt: bool = False) -> None:
        """`message` says what could not be written, and why."""
        super().__init__(message)
        self.in_doubt = in_doubt

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with its doubt when it crosses a process boundary."""
        return _rebuild_audit_failure, (str(self), self.in_doubt)


def _rebuild_audit_failure(message: str, in_doubt: bool) -> AuditFailedError:  # noqa: FBT001 - as pickle gives it
    return AuditFailedError(message, in_doubt=in_doubt)
