"""The errors that users catch: where each stands in the tree, and what it keeps when it is pickled."""

from __future__ import annotations

import pickle

import pytest

import encrypted_sessions
from encrypted_sessions import (
    EncryptedSessionError,
    Finding,
    PutBackError,
    ScanBudgetError,
    StoreConfigError,
    StoreError,
    StoreTimeoutError,
    StoreUnavailableError,
    UnreadableItemsError,
    errors,
)


def again(error: EncryptedSessionError) -> EncryptedSessionError:
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    assert type(back) is type(error)
    assert str(back) == str(error) == "what happened"
    assert isinstance(back, EncryptedSessionError)
    return back


def test_every_error_of_sessions_and_stores_can_be_imported_from_the_package() -> None:
    for name in errors.__all__:
        assert getattr(encrypted_sessions, name) is getattr(errors, name)
        assert name in encrypted_sessions.__all__


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (ScanBudgetError, RuntimeError),
        (StoreUnavailableError, StoreError),
        (StoreTimeoutError, StoreUnavailableError),
        (StoreTimeoutError, TimeoutError),
        (StoreConfigError, StoreError),
        (StoreConfigError, ValueError),
        *((getattr(errors, name), EncryptedSessionError) for name in errors.__all__ if name.endswith("Error")),
    ],
)
def test_it_is_caught_as(error: type[Exception], caught_as: type[Exception]) -> None:
    assert issubclass(error, caught_as)


@pytest.mark.parametrize(
    "error", [getattr(errors, name) for name in errors.__all__ if name not in {"UnreadableItemsError", "PutBackError"}]
)
def test_it_crosses_a_process_boundary(error: type[Exception]) -> None:
    assert str(pickle.loads(pickle.dumps(error("what happened")))) == "what happened"  # noqa: S301 - made in this line


def test_it_keeps_what_it_carries() -> None:
    findings = (Finding(0, "malformed", None),)
    unreadable = again(UnreadableItemsError("what happened", outcomes={"ok": 1, "malformed": 1}, findings=findings))
    assert isinstance(unreadable, UnreadableItemsError)
    assert (unreadable.outcomes, unreadable.findings) == ({"ok": 1, "malformed": 1}, findings)
    put_back = again(PutBackError("what happened", stored={"a": 1}))
    assert isinstance(put_back, PutBackError)
    assert put_back.stored == {"a": 1}


@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_timeout_says_whether_a_change_is_in_doubt(in_doubt: bool) -> None:
    timeout = again(StoreTimeoutError("what happened", in_doubt=in_doubt))
    assert isinstance(timeout, StoreTimeoutError)
    assert timeout.in_doubt is in_doubt
    assert StoreTimeoutError("what happened").in_doubt is False
    with pytest.raises(TypeError):
        StoreTimeoutError("what happened", in_doubt)  # type: ignore[misc]  # by its name alone
