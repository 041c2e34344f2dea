"""What sessions and stores raise. What keys raise has a tree of its own: `keyproviders.KeyProviderError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .core.outcomes import EXPLANATIONS, Finding, describe

__all__ = [
    "EncryptedSessionError",
    "HistoryChangedError",
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


class EncryptedSessionError(Exception):
    """Parent of everything that an encrypted session raises of its own."""


class UnreadableItemsError(EncryptedSessionError):
    """Rows were found that cannot be returned as items. Nothing was deleted.

    Attributes:
        outcomes: A count of every row that was looked at, by outcome name, "ok" included.
        findings: Up to 20 `Finding(position, outcome, kid)` of the rows in question, newest first.
    """

    def __init__(
        self,
        message: str,
        *,
        outcomes: Mapping[str, int],
        findings: Sequence[Finding] = (),
    ) -> None:
        """`message` says what happened and what to do; it quotes no item."""
        super().__init__(message)
        self.outcomes = dict(outcomes)
        self.findings = tuple(findings)

    @classmethod
    def of(
        cls,
        outcomes: Mapping[str, int],
        findings: Sequence[Finding],
        *,
        raising: Sequence[str],
        consequence: str = "Nothing was returned and nothing was deleted.",
        ways_out: str = (
            "To go on without such rows: on_unreadable='skip', or read(), which returns what can"
            " be read and names the rest."
        ),
    ) -> UnreadableItemsError:
        """The error for rows of the outcomes named in `raising`, with what to do about each."""
        met = [name for name in raising if outcomes.get(name)]
        count = sum(outcomes[name] for name in met)
        found = describe({name: outcomes[name] for name in met})
        lines = [
            f"{count} of {sum(outcomes.values())} stored items cannot be read ({found}). {consequence}",
            *(f"  {name}: {EXPLANATIONS[name]}" for name in met),
        ]
        if findings:
            places = ", ".join(finding.place() for finding in findings[:5])
            lines.append(f"  counted from the newest row (0): {places}")
        lines.append(f"  {ways_out}")
        return cls("\n".join(lines), outcomes=outcomes, findings=findings)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with its counts and findings when it crosses a process boundary."""
        return _rebuild, (str(self), self.outcomes, self.findings)


def _rebuild(message: str, outcomes: Mapping[str, int], findings: Sequence[Finding]) -> UnreadableItemsError:
    return UnreadableItemsError(message, outcomes=outcomes, findings=findings)


class ScanBudgetError(EncryptedSessionError, RuntimeError):
    """`max_scan_items` rows were read and the answer was not complete (upstream: RuntimeError)."""


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


class WeakKeyWarning(UserWarning):
    """A string is used as a key that is not 32 random bytes: it can be guessed."""


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
