"""The keyset as a value: its text, its states, its changes, and everything that can be wrong with it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyproviders import InvalidKeyError, ProviderConfigError
from keyproviders.keyset import KeysetRefusedError, WrappedKey
from keyproviders.keyset.document import dump, parse
from keyproviders.keyset.model import MOST_DELAY_S, KeyEntry, Keyset, time_text
from keyproviders.keyset.stores.base import MOST_BYTES

NOW = 1_800_000_000
DELAY_S = 1_260

#: Format 1, byte for byte. What is written today must be read by every later release.
TEXT = """{
  "format": 1,
  "keyset": "agents",
  "activation_delay_s": 1260,
  "keys": [
    {
      "name": "a",
      "state": "destroyed",
      "created_at": "2026-11-23T07:00:00Z",
      "activate_at": "2026-11-23T07:00:00Z",
      "retired_at": "2026-11-24T07:00:00Z",
      "destroyed_at": "2026-11-25T07:00:00Z",
      "kek": "arn:aws:kms:eu-central-1:111122223333:key/1"
    },
    {
      "name": "b",
      "state": "retired",
      "created_at": "2026-11-23T08:00:00Z",
      "activate_at": "2026-11-23T08:21:00Z",
      "retired_at": "2026-11-24T08:00:00Z",
      "kek": "transit/agents",
      "wrapped": "vault:v3:AAAA"
    },
    {
      "name": "c",
      "state": "usable",
      "created_at": "2026-11-23T09:00:00Z",
      "activate_at": "2026-11-23T09:21:00Z",
      "kek": "transit/agents",
      "wrapped": "vault:v3:BBBB"
    }
  ]
}
"""

KEYSET = Keyset(
    "agents",
    1260,
    (
        KeyEntry(
            "a",
            1_795_417_200,
            1_795_417_200,
            "arn:aws:kms:eu-central-1:111122223333:key/1",
            None,
            1_795_503_600,
            1_795_590_000,
        ),
        KeyEntry("b", 1_795_420_800, 1_795_422_060, "transit/agents", "vault:v3:AAAA", 1_795_507_200),
        KeyEntry("c", 1_795_424_400, 1_795_425_660, "transit/agents", "vault:v3:BBBB"),
    ),
)


def entry(name: str, at: int = NOW, *, activate_at: int | None = None) -> KeyEntry:
    return KeyEntry(name, at, at if activate_at is None else activate_at, "kek/1", f"wrapped-{name}")


def keyset(*entries: KeyEntry, delay_s: int = DELAY_S) -> Keyset:
    return Keyset("default", delay_s, entries)


def read(text: str, name: str = "agents") -> Keyset:
    return parse(text, name, "the keyset in the test")


def altered(*path: Any, to: Any) -> str:
    """The text with another value in one place, or without it."""
    top = json.loads(TEXT)
    at = top
    for step in path[:-1]:
        at = at[step]
    if to is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return json.dumps(top)


# -- Its text ---------------------------------------------------------------------------------------


def test_the_text_of_format_1_does_not_drift() -> None:
    assert dump(KEYSET) == TEXT
    assert read(TEXT) == KEYSET


def test_what_is_bound_to_a_key_is_the_keyset_the_key_and_the_time() -> None:
    assert KEYSET.context(KEYSET.entries[2]) == {"keyset": "agents", "key": "c", "created_at": "2026-11-23T09:00:00Z"}


def test_a_time_before_the_year_1000_would_still_have_four_digits() -> None:
    assert time_text(0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", " ", "\n\t\n"])
def test_an_empty_text_says_that_it_is_empty(text: str) -> None:
    with pytest.raises(InvalidKeyError, match=r"the keyset in the test is not a keyset: it is empty; restore its last"):
        read(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TEXT[:-3], "it is not JSON from line"),
        (TEXT + "x", "it is not JSON from line"),
        ("\ufeff" + TEXT, "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("9" * 5_000, "it is not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a": 1, "a": 1}', "a field twice"),
        ("{}", "no 'format'"),
        (altered("format", to=True), "'format' is not the number of a format"),
        (altered("format", to=1.0), "'format' is not the number of a format"),
        (altered("format", to="1"), "'format' is not the number of a format"),
        (altered("format", to=0), "'format' is not the number of a format"),
        (altered("keyset", to=...), "lacks 'keyset'"),
        (altered("comment", to=""), "fields that are not part of format 1"),
        (altered("keyset", to=5), "'keyset' is not a name"),
        (altered("keyset", to="a b"), "'keyset' is not a name"),
        (altered("activation_delay_s", to=0), "not a whole number from 1 to"),
        (altered("activation_delay_s", to=True), "not a whole number from 1 to"),
        (altered("activation_delay_s", to=1e3), "not a whole number from 1 to"),
        (altered("activation_delay_s", to=MOST_DELAY_S + 1), "not a whole number from 1 to"),
        (altered("keys", to={}), "'keys' is not a list"),
        (altered("keys", to=[]), "no key that can be used"),
        (altered("keys", 2, to=...), "no key that can be used: all are retired or destroyed"),
        (altered("keys", 1, to=None), "key 2 of 3 is not an object"),
        (altered("keys", 1, "state", to="active"), "key 2 of 3 has a state that is not part of format 1"),
        (altered("keys", 1, "state", to=["usable"]), "key 2 of 3 has a state that is not part of format 1"),
        (altered("keys", 1, "state", to="usable"), "key 2 of 3 has fields that are not part of format 1"),
        (altered("keys", 1, "state", to="destroyed"), "key 2 of 3 lacks 'destroyed_at'"),
        (altered("keys", 2, "wrapped", to=...), "key 3 of 3 lacks 'wrapped'"),
        (altered("keys", 2, "name", to="c/d"), "key 3 of 3 has a name that a key cannot have"),
        (altered("keys", 2, "name", to=None), "key 3 of 3 has a name that a key cannot have"),
        (altered("keys", 2, "name", to="b"), "two of its keys have the same name"),
        (altered("keys", 2, "created_at", to=NOW), r"the 'created_at' of key 3 of 3 \(c\) is not a time"),
        (altered("keys", 2, "created_at", to="2026-02-30T00:00:00Z"), "is not a time"),
        (altered("keys", 2, "created_at", to="1969-12-31T23:59:59Z"), "is not a time"),
        (altered("keys", 2, "created_at", to="0000-01-01T00:00:00Z"), "is not a time"),
        (altered("keys", 2, "created_at", to="2026-11-23T09:00:00+00:00"), "is not a time"),
        (altered("keys", 2, "created_at", to="2026-11-23T09:00:00Z\n"), "is not a time"),
        (altered("keys", 2, "created_at", to="２026-11-23T09:00:00Z"), "is not a time"),  # noqa: RUF001 - a digit of another script
        (altered("keys", 2, "activate_at", to="2026-11-23T08:59:59Z"), "out of order"),
        (altered("keys", 1, "retired_at", to="2026-11-23T07:59:59Z"), "out of order"),
        (altered("keys", 0, "destroyed_at", to="2026-11-24T06:59:59Z"), "out of order"),
        (altered("keys", 2, "kek", to=""), r"the 'kek' of key 3 of 3 \(c\) is not text"),
        (altered("keys", 2, "kek", to="a b"), "is not text"),
        (altered("keys", 2, "kek", to="a\x1b[31m"), "is not text"),
        (altered("keys", 2, "kek", to="k" * 2_049), "is not text"),
        (altered("keys", 2, "wrapped", to="é"), r"the 'wrapped' of key 3 of 3 \(c\) is not text"),
        (altered("keys", 2, "wrapped", to=""), "is not text"),
        (altered("keys", 2, "wrapped", to="w" * 16_385), "is not text"),
        (" " * MOST_BYTES + TEXT, f"more than {MOST_BYTES} characters"),
    ],
)
def test_a_damaged_text_is_named_with_its_place_and_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(InvalidKeyError, match=rf"the keyset in the test is not a keyset: .*{words}"):
        read(text)


def test_a_later_format_asks_for_a_later_release() -> None:
    with pytest.raises(
        ProviderConfigError, match=r"in the test is of format 3, but this release reads formats 1 and 2"
    ):
        read('{"format": 3, "whatever": []}')
    with pytest.raises(ProviderConfigError, match="of format 1000000 or more"):
        read(f'{{"format": {"9" * 4_000}}}')


def test_a_keyset_of_another_name_is_named() -> None:
    with pytest.raises(ProviderConfigError, match=r"the keyset in the test contains the name 'agents'"):
        read(TEXT, "default")


def test_a_keyset_that_could_not_be_read_again_is_not_written() -> None:
    many = tuple(entry(f"key-{at}") for at in range(6_000))
    with pytest.raises(KeysetRefusedError, match=r"would have \d+ bytes, and at most 1048576 can be read again"):
        dump(keyset(*many))


@given(
    at=st.integers(0, len(TEXT) - 1),
    cut=st.integers(0, 40),
    put=st.one_of(
        st.text(max_size=12), st.sampled_from(['"', "{", "}", "null", "1e400", "\\ud800", '"name": "c"', ","])
    ),
)
def test_any_change_of_the_text_ends_in_a_keyset_or_in_an_error_of_ours(at: int, cut: int, put: str) -> None:
    text = TEXT[:at] + put + TEXT[at + cut :]
    try:
        found = read(text)
    except (InvalidKeyError, ProviderConfigError) as error:
        said = str(error)
    else:
        assert read(dump(found)) == found
        return
    assert "the keyset in the test" in said
    assert len(said) < 400


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@given(
    path=st.sampled_from([(field,) for field in json.loads(TEXT)])
    | st.tuples(st.just("keys"), st.integers(0, 2))
    | st.tuples(st.just("keys"), st.just(2), st.sampled_from(list(json.loads(TEXT)["keys"][2]))),
    to=JSON,
)
def test_any_value_in_any_place_ends_in_a_keyset_or_in_an_error_of_ours(path: tuple[Any, ...], to: Any) -> None:
    try:
        found = read(altered(*path, to=to))
    except (InvalidKeyError, ProviderConfigError):
        return
    assert read(dump(found)) == found


# -- States -----------------------------------------------------------------------------------------


def states(of: Keyset, now: float = NOW) -> list[str]:
    return [of.state(one, now) for one in of.entries]


def test_pending_active_and_decrypt_only_follow_from_the_time() -> None:
    found = keyset(entry("a", NOW - 100), entry("b", NOW - 50, activate_at=NOW), entry("c", NOW, activate_at=NOW + 9))
    assert states(found, NOW - 1) == ["active", "pending", "pending"]
    assert states(found, NOW) == ["decrypt-only", "active", "pending"]
    assert states(found, NOW + 8.999) == ["decrypt-only", "active", "pending"]
    assert states(found, NOW + 9) == ["decrypt-only", "decrypt-only", "active"]


def test_where_no_earlier_key_is_usable_the_pending_one_is_active() -> None:
    gone = entry("a", NOW - 100)._replace(retired_at=NOW - 50)
    assert states(keyset(gone, entry("b", activate_at=NOW + 900))) == ["retired", "active"]
    # Also for a process whose clock is behind that of the one that made the keyset.
    assert states(keyset(entry("a", NOW + 30))) == ["active"]


def test_a_key_for_an_emergency_overtakes_a_pending_one_for_good() -> None:
    found = keyset(entry("a", NOW - 9_000), entry("b", NOW - 60, activate_at=NOW + 1_200), entry("c"))
    assert states(found) == ["decrypt-only", "decrypt-only", "active"]
    assert states(found, NOW + 1_201) == ["decrypt-only", "decrypt-only", "active"]
    # What a key was overtaken by counts, whenever its own time would have come.
    assert [found.written_until(one) for one in found.entries] == [NOW + DELAY_S, NOW + DELAY_S, None]


# -- Changes ----------------------------------------------------------------------------------------


def test_rotation_is_refused_while_a_key_is_pending_and_says_until_when() -> None:
    found = keyset(entry("a"), entry("b", activate_at=NOW + DELAY_S))
    with pytest.raises(KeysetRefusedError, match=r"'b' .* is pending and becomes active at 2027-01-15T08:21:00Z"):
        found.check_rotation(NOW)
    found.check_rotation(NOW + DELAY_S)


@pytest.mark.parametrize("gone", [False, True])
def test_a_name_is_never_used_again(gone: bool) -> None:
    before = keyset(entry("a"), entry("b"))
    if gone:
        before = before.retired("a", NOW + DELAY_S).destroyed("a", NOW + DELAY_S)
    with pytest.raises(KeysetRefusedError, match="has or had a key 'a', and names are never reused"):
        before.added(entry("a", NOW + 1))


def test_an_active_or_pending_key_is_not_retired() -> None:
    found = keyset(entry("a"), entry("b", activate_at=NOW + 60))
    with pytest.raises(KeysetRefusedError, match="'a' of the keyset 'default' is active, and only a decrypt-only key"):
        found.retired("a", NOW)
    with pytest.raises(KeysetRefusedError, match="'b' of the keyset 'default' is pending, and only a decrypt-only key"):
        found.retired("b", NOW)


def test_a_key_that_somebody_may_still_write_with_is_not_retired() -> None:
    found = keyset(entry("a", NOW - 100), entry("b"))
    with pytest.raises(
        KeysetRefusedError, match=(r"until 2027-01-15T08:21:00Z, a process .* may write with the key 'a'")
    ):
        found.retired("a", NOW + DELAY_S - 0.001)
    assert states(found.retired("a", NOW + DELAY_S)) == ["retired", "active"]


def test_only_a_retired_key_is_destroyed_and_its_record_stays() -> None:
    found = keyset(entry("a", NOW - 100), entry("b"))
    for name, state in (("a", "decrypt-only"), ("b", "active")):
        with pytest.raises(
            KeysetRefusedError, match=f"'{name}' .* is {state}, and only a retired key can be destroyed"
        ):
            found.destroyed(name, NOW)
    gone = found.retired("a", NOW + DELAY_S).destroyed("a", NOW + 2 * DELAY_S)
    assert "wrapped-a" not in dump(gone)
    assert gone.entries[0] == KeyEntry(
        "a", NOW - 100, NOW - 100, "kek/1", None, NOW + DELAY_S, destroyed_at=NOW + 2 * DELAY_S
    )
    with pytest.raises(
        KeysetRefusedError, match=r"'a' .* was destroyed at 2027-01-15T08:42:00Z; only a copy of the keyset"
    ):
        gone.restored("a")


def test_what_is_done_already_changes_nothing() -> None:
    retired = keyset(entry("a", NOW - 100), entry("b")).retired("a", NOW + DELAY_S)
    assert retired.retired("a", NOW + 9_000) == retired
    destroyed = retired.destroyed("a", NOW + DELAY_S)
    assert destroyed.destroyed("a", NOW + 9_000) == destroyed
    assert destroyed.retired("a", NOW + 9_000) == destroyed
    restored = retired.restored("a")
    assert restored.restored("a") == restored


def test_a_clock_that_was_set_back_leaves_the_times_in_their_order() -> None:
    found = keyset(entry("a", NOW - 100), entry("b")).retired("a", NOW + DELAY_S).destroyed("a", NOW - 5_000)
    assert parse(dump(found), "default", "it") == found


@pytest.mark.parametrize("change", ["retired", "restored", "destroyed"])
def test_a_key_that_is_not_there_is_told_with_those_that_are(change: str) -> None:
    found = keyset(entry("a"), entry("b"))
    arguments = ("c",) if change == "restored" else ("c", NOW)
    with pytest.raises(KeysetRefusedError, match="has no key 'c'; it has a, b"):
        getattr(found, change)(*arguments)


STEPS = st.one_of(
    st.tuples(st.just("rotate"), st.booleans()),
    st.tuples(st.sampled_from(["retire", "restore", "destroy"]), st.integers(0, 6)),
    st.tuples(st.just("rewrap"), st.integers(0, 99)),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 30, 60, 90, 1_000])),
)


def changed(found: Keyset, what: str, value: int, now: int) -> Keyset:
    if what == "rotate":
        if not value:
            found.check_rotation(now)
        at = now if value else now + found.activation_delay_s
        return found.added(entry(f"k{len(found.entries)}", now, activate_at=at))
    if what == "rewrap":
        return found.rewrapped({one.name: WrappedKey("kek/2", f"w{value}") for one in found.entries if one.wrapped})
    if what == "retire":
        return found.retired(f"k{value}", now)
    return found.restored(f"k{value}") if what == "restore" else found.destroyed(f"k{value}", now)


def check_change(before: Keyset, after: Keyset, now: int) -> None:
    """No key is lost but by being destroyed, and none is retired that somebody might write with."""
    assert [one.name for one in after.entries] == [f"k{at}" for at in range(len(after.entries))]
    for old, new in zip(before.entries, after.entries, strict=False):
        assert (new.ciphertext is None) == (new.destroyed_at is not None)
        assert old.destroyed_at is None or new == old
        if new.retired_at is not None and old.retired_at is None:
            until = after.written_until(new)
            assert until is not None
            assert until <= now


@given(st.lists(STEPS, max_size=25))
def test_any_changes_at_any_times_keep_what_a_keyset_promises(steps: list[tuple[str, int]]) -> None:
    now, found = NOW, keyset(entry("k0"), delay_s=60)
    for what, value in steps:
        before, active_before = found, found.active(now)
        if what == "wait":
            now += value
        else:
            with suppress(KeysetRefusedError):
                found = changed(found, what, value, now)
        assert parse(dump(found), "default", "it") == found
        check_change(before, found, now)
        said = states(found, now)
        assert said.count("active") == 1
        assert said.count("pending") <= 1
        # Which key is active only ever moves on.
        assert found.entries.index(found.active(now)) >= [one.name for one in found.entries].index(active_before.name)
