"""What an error means for whoever started a command: which exit code, and which name of a class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from keyproviders import KeyProviderError, ProviderConfigError

from ..errors import StoreConfigError, StoreError
from ..errors import __all__ as _public_names
from ..maintenance.refusals import RefusedUseError
from ..stores.unsuitable import UnsuitableStoreError
from .exit_codes import FAILED, INTERRUPTED, UNAVAILABLE, WRONG_USE

if TYPE_CHECKING:
    from ..doctor.diagnosis import Check
    from ..maintenance.reports import Report

__all__ = ["exit_code_of", "exit_code_of_checks", "exit_code_of_report", "kind_of"]

#: From the special to the general; what is none of these is FAILED.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ProviderConfigError, WRONG_USE),
    (StoreConfigError, WRONG_USE),
    (RefusedUseError, WRONG_USE),
    (FileExistsError, WRONG_USE),
    (UnsuitableStoreError, FAILED),
    (KeyProviderError, UNAVAILABLE),
    (StoreError, UNAVAILABLE),
)


def exit_code_of(error: BaseException) -> int:
    """What a command ends with that this error keeps from its work."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def exit_code_of_report(report: Report) -> int:
    """What a command ends with that printed this report."""
    if report.stopped == "interrupted":
        return INTERRUPTED
    if report.stopped in ("provider", "store") or report.left.get("key_not_answered"):
        return UNAVAILABLE
    return 0 if report.ok else FAILED


def exit_code_of_checks(checks: Iterable[Check]) -> int:
    """What the doctor ends with after these checks: a wrong setting comes before a place that did not answer."""
    codes = {_code_of_check(check) for check in checks if check.status == "failed"}
    return next((code for code in (WRONG_USE, UNAVAILABLE, FAILED) if code in codes), 0)


def kind_of(error: BaseException) -> str:
    """The name of an error's class: of one that is private here, the name of what it is caught by."""
    return next(
        kind.__name__
        for kind in type(error).__mro__
        if kind.__name__ in _public_names or not kind.__module__.startswith("encrypted_sessions.")
    )


def _code_of_check(check: Check) -> int:
    if check.error is None:  # no place was named, or another package is in the way
        return WRONG_USE if check.name == "open" else FAILED
    names = ((ProviderConfigError, WRONG_USE), (KeyProviderError, UNAVAILABLE))
    return next((code for kind, code in names if _is_named(kind, check.error)), FAILED)


def _is_named(kind: type[BaseException], name: str) -> bool:
    """Whether a class, or one made from it, has this name."""
    return name == kind.__name__ or any(_is_named(one, name) for one in kind.__subclasses__())
