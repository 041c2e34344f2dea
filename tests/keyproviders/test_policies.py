"""The numbers of a ring are checked where they are set."""

from __future__ import annotations

import copy
import pickle

import pytest

from keyproviders import CachePolicy, RetryPolicy


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert repr(CachePolicy()) == (
        "CachePolicy(fresh_s=300.0, stale_write_s=900.0, stale_read_s=86400.0, revalidate_s=3600.0,"
        " denied_grace_s=300.0, max_keys=1000, miss_memory_s=30.0)"
    )
    assert repr(RetryPolicy()) == "RetryPolicy(attempts=4, deadline_s=8.0, wait_min_s=0.1, wait_max_s=2.0)"


@pytest.mark.parametrize("kind", [CachePolicy, RetryPolicy])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "5", None])
def test_a_wrong_number_is_refused_and_the_field_is_named(kind: type, value: object) -> None:
    for name in kind.__slots__:  # type: ignore[attr-defined] # both have them
        if value == 0 and value is not True and name in {"denied_grace_s", "miss_memory_s", "wait_min_s"}:
            continue
        if (value == 0 or value == float("inf")) and name == "wait_max_s":
            continue
        with pytest.raises((TypeError, ValueError), match=rf"{kind.__name__}\.{name} "):
            kind(**{name: value})


def test_counts_are_whole() -> None:
    with pytest.raises(TypeError, match=r"CachePolicy.max_keys must be an int"):
        CachePolicy(max_keys=10.0)  # type: ignore[arg-type] # what is tested
    with pytest.raises(TypeError, match=r"RetryPolicy.attempts must be an int"):
        RetryPolicy(attempts=1.5)  # type: ignore[arg-type] # what is tested


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fresh_s .* must not be more than CachePolicy.stale_write_s"):
        CachePolicy(fresh_s=1000)
    with pytest.raises(ValueError, match=r"stale_write_s .* must not be more than CachePolicy.stale_read_s"):
        CachePolicy(stale_read_s=800)
    with pytest.raises(ValueError, match=r"wait_min_s .* must not be more than RetryPolicy.wait_max_s"):
        RetryPolicy(wait_min_s=3)


def test_a_policy_cannot_be_changed_and_is_compared_by_value() -> None:
    policy = CachePolicy(fresh_s=10)
    with pytest.raises(AttributeError, match=r"cannot be changed"):
        policy.fresh_s = 20
    with pytest.raises(AttributeError, match=r"cannot be changed"):
        del policy.fresh_s
    assert policy == CachePolicy(fresh_s=10) != CachePolicy()
    assert hash(policy) == hash(CachePolicy(fresh_s=10))
    assert RetryPolicy() != CachePolicy()


def test_a_policy_can_be_pickled_and_copied() -> None:
    policy = CachePolicy(fresh_s=10)
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - made one line above
    assert copy.deepcopy(policy) == policy
