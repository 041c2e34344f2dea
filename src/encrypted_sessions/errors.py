"""What sessions and stores raise. What keys raise has a tree of its own: `keyproviders.KeyProviderError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keyproviders import InsecurePermissionsWarning, WeakKeyWarning

from .core.outcomes import EXPLANATIONS, describe

if TYPE_CHECKING:
    from .core.finding import Finding

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
    """Base class of the errors that an encrypted session itself raises."""


class UnreadableItemsError(EncryptedSessionError):
    """Rows were found that cannot be returned as items. Nothing was deleted.

    Attributes:
        outcomes: How many rows were examined, by outcome, including "ok".
        findings: Up to 20 `Finding(position, outcome, kid)` of the rows in question, newest first.
        session_id: The session whose rows they are; None if it is not known.
        store: The class of the session that stores them; None if it is not known.
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
        """`message` says what happened and what to do. It does not quote items."""
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
        found: What a search had found so far, in the form that it returns; otherwise empty.
    """

    def __init__(self, message: str, *, found: list[dict[str, Any]] | None = None) -> None:
        """`found` is what a search had found so far."""
        super().__init__(message)
        self.found = found or []

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with what was found when it crosses a process boundary."""
        return _scan_budget_error, (str(self), self.found)


def _scan_budget_error(message: str, found: list[dict[str, Any]]) -> ScanBudgetError:
    return ScanBudgetError(message, found=found)


class PutBackError(EncryptedSessionError):
    """A store did not accept an item back that `pop_item` had taken from it.

    Attributes:
        stored: That item, as it was stored.
    """

    def __init__(self, message: str, *, stored: object) -> None:
        """`stored` is what the store's own pop_item returned."""
        super().__init__(message)
        self.stored = stored

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with the item when it crosses a process boundary."""
        return _put_back_error, (str(self), self.stored)


def _put_back_error(message: str, stored: object) -> PutBackError:
    return PutBackError(message, stored=stored)


class HistoryChangedError(EncryptedSessionError):
    """The stored history changed during an operation, which therefore stopped. Nothing was lost."""


class PurgeRefusedError(EncryptedSessionError):
    """A store has expired rows but no operation that removes only these. Nothing was removed."""


class LongSessionIdWarning(UserWarning):
    """A session id has more than 64 bytes of UTF-8: another id can have the same session key."""


class StoreError(EncryptedSessionError):
    """A store cannot be used in its present state: no tables, no permission, damage."""


class StoreUnavailableError(StoreError):
    """A store does not answer, or not now: it may work later.

    It is not known whether a change that was being made took place: read the rows again.
    """


class StoreTimeoutError(StoreUnavailableError, TimeoutError):
    """A store did not answer in time.

    Attributes:
        in_doubt: Whether a requested change may have taken place anyway, or may still take place. False if no change
            was requested, or if certainly nothing was changed.
    """

    def __init__(self, message: str, *, in_doubt: bool = False) -> None:
        """`message` says which store, what was requested, and how long it was waited for."""
        super().__init__(message)
        self.in_doubt = in_doubt

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with its doubt when it crosses a process boundary."""
        return _rebuild_timeout, (type(self), str(self), self.in_doubt)


def _rebuild_timeout(kind: type[StoreTimeoutError], message: str, in_doubt: bool) -> StoreTimeoutError:  # noqa: FBT001 - as pickle gives it
    return kind(message, in_doubt=in_doubt)


class StoreConfigError(StoreError, ValueError):
    """A store cannot be opened with these settings: its URL, a table's name, or a missing extra."""


class AuditFailedError(EncryptedSessionError):
    """An operation could not be recorded in an audit log that refuses such operations.

    Attributes:
        in_doubt: Whether the operation took place, or may have: only its result could not be written. False if
            nothing was done.
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
