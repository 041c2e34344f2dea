"""Format 2 of a keyset: its text, byte for byte, and everything that can be wrong with what format 1 does not have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyproviders import InvalidKeyError, ProviderConfigError
from keyproviders.keyset import KeysetRefusedError
from keyproviders.keyset.document import dump, parse
from keyproviders.keyset.model import MOST_DELAY_S, Change, KeyEntry, Keyset

ID = "0123456789abcdef0123456789abcdef"

#: Format 2, byte for byte. What is written today must be read by every later release.
TEXT = """{
  "format": 2,
  "keyset": "agents",
  "id": "0123456789abcdef0123456789abcdef",
  "revision": 2,
  "activation_delay_s": 1260,
  "destroy_after_s": 604800,
  "keys": [
    {
      "name": "a",
      "state": "usable",
      "created_at": "2026-11-23T09:00:00Z",
      "activate_at": "2026-11-23T09:00:00Z",
      "kek": "transit/agents",
      "wrapped": "vault:v3:BBBB"
    }
  ],
  "changes": [
    {
      "at": "2026-11-23T09:00:00Z",
      "user": "ops",
      "host": "bastion-1",
      "what": "create",
      "key": "a",
      "reason": null
    },
    {
      "at": "2026-11-24T09:00:00Z",
      "user": "ops",
      "host": "bastion-1",
      "what": "rewrap",
      "key": null,
      "reason": "CHG-17: \\u00fcbernommen"
    }
  ]
}
"""
KEYSET = Keyset(
    "agents",
    1_260,
    (KeyEntry("a", 1_795_424_400, 1_795_424_400, "transit/agents", "vault:v3:BBBB"),),
    ID,
    2,
    604_800,
    (
        Change(1_795_424_400, "ops", "bastion-1", "create", "a"),
        Change(1_795_510_800, "ops", "bastion-1", "rewrap", None, "CHG-17: übernommen"),
    ),
)


def read(text: str) -> Keyset:
    return parse(text, "agents", "the keyset in the test")


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


def test_the_text_of_format_2_does_not_drift() -> None:
    assert dump(KEYSET) == TEXT
    assert read(TEXT) == KEYSET


def test_the_id_is_bound_to_a_key_as_well() -> None:
    assert KEYSET.context(KEYSET.entries[0]) == {
        "keyset": "agents",
        "key": "a",
        "created_at": "2026-11-23T09:00:00Z",
        "keyset_id": ID,
    }


CHANGE = json.loads(TEXT)["changes"][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (altered("id", to=...), "lacks 'id'"),
        (altered("id", to=None), "its 'id' is not an id"),
        (altered("id", to=ID.upper()), "its 'id' is not an id"),
        (altered("id", to=ID[1:]), "its 'id' is not an id"),
        (altered("id", to=f"{ID}\n"), "its 'id' is not an id"),
        (altered("revision", to=...), "lacks 'revision'"),
        (altered("revision", to=0), "its 'revision' is not a whole number from 1 to 9007199254740991"),
        (altered("revision", to=2**53), "its 'revision' is not a whole number"),
        (altered("revision", to=True), "its 'revision' is not a whole number"),
        (altered("revision", to=2.0), "its 'revision' is not a whole number"),
        (altered("destroy_after_s", to=-1), "its 'destroy_after_s' is not a whole number from 0 to"),
        (altered("destroy_after_s", to=MOST_DELAY_S + 1), "its 'destroy_after_s' is not a whole number from 0 to"),
        (altered("changes", to={}), "its 'changes' is not a list of up to 20"),
        (altered("changes", to=[CHANGE] * 21), "its 'changes' is not a list of up to 20"),
        (altered("changes", 0, to="create"), "change 1 of 2 is not an object"),
        (altered("changes", 0, "reason", to=...), "change 1 of 2 lacks 'reason'"),
        (altered("changes", 0, "more", to=1), "change 1 of 2 has fields that are not part of format 2"),
        (altered("changes", 1, "at", to=5), "the 'at' of change 2 of 2 is not a time"),
        (altered("changes", 1, "user", to=""), "the 'user' of change 2 of 2 is not a line of 1 to 255"),
        (altered("changes", 1, "user", to="x" * 256), "the 'user' of change 2 of 2 is not a line"),
        (altered("changes", 1, "host", to="\x1b[2J"), "the 'host' of change 2 of 2 is not a line"),
        (altered("changes", 1, "host", to=None), "the 'host' of change 2 of 2 is not a line"),
        (altered("changes", 1, "what", to="re wrap"), "the 'what' of change 2 of 2 is not a word"),
        (altered("changes", 1, "what", to=[]), "the 'what' of change 2 of 2 is not a word"),
        (altered("changes", 1, "key", to="a/b"), "the 'key' of change 2 of 2 is not a name"),
        (altered("changes", 1, "reason", to="a\nb"), "the 'reason' of change 2 of 2 is not a line of 1 to 500"),
        (altered("changes", 1, "reason", to="\udc80"), "the 'reason' of change 2 of 2 is not a line"),
        (altered("more", to=1), "it has fields that are not part of format 2"),
        (altered("keys", 0, "state", to="retired"), "key 1 of 1 lacks 'retired_at'"),
        # Half of one format and half of the other.
        (altered("format", to=1), "it has fields that are not part of format 1"),
    ],
)
def test_a_damaged_text_is_named_with_its_place_and_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(InvalidKeyError, match=rf"the keyset in the test is not a keyset: .*{words}"):
        read(text)


def test_a_text_of_format_1_that_says_it_is_of_format_2_is_damaged() -> None:
    top = json.loads(TEXT)
    for field in ("id", "revision", "destroy_after_s", "changes"):
        del top[field]
    with pytest.raises(InvalidKeyError, match="it lacks 'id'"):
        read(json.dumps(top))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@given(
    path=st.sampled_from([(field,) for field in json.loads(TEXT)])
    | st.tuples(st.just("changes"), st.integers(0, 1))
    | st.tuples(st.just("changes"), st.just(1), st.sampled_from(list(CHANGE)))
    | st.tuples(st.just("keys"), st.just(0), st.sampled_from(list(json.loads(TEXT)["keys"][0]))),
    to=JSON,
)
def test_any_value_in_any_place_ends_in_a_keyset_or_in_an_error_of_ours(path: tuple[Any, ...], to: Any) -> None:
    try:
        found = read(altered(*path, to=to))
    except (InvalidKeyError, ProviderConfigError):
        return
    assert read(dump(found)) == found


@given(
    at=st.integers(0, len(TEXT) - 1),
    cut=st.integers(0, 40),
    put=st.one_of(st.text(max_size=12), st.sampled_from(['"', "{", "}", "null", "1e400", "\\ud800", '"id": "', ","])),
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


LINE = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=30)
CHANGES = st.builds(
    Change,
    st.integers(0, 200_000_000_000),
    LINE,
    LINE,
    st.sampled_from(["create", "rotate", "rewrap", "retire", "restore", "destroy", "upgrade"]),
    st.none() | st.just("a"),
    st.none() | LINE,
)


@given(
    changes=st.lists(CHANGES, max_size=45),
    revision=st.integers(1, 2**53 - 100),
    destroy_after_s=st.integers(0, MOST_DELAY_S),
)
def test_the_last_20_changes_come_back_as_they_were_and_each_is_a_revision(
    changes: list[Change], revision: int, destroy_after_s: int
) -> None:
    keyset = KEYSET._replace(revision=revision, destroy_after_s=destroy_after_s)
    for change in changes:
        keyset = keyset.recorded(change)
    found = read(dump(keyset))
    assert found == keyset
    assert found.revision == revision + len(changes)
    assert found.changes == (*KEYSET.changes, *changes)[-20:]


def test_a_keyset_of_format_1_keeps_no_record() -> None:
    old = Keyset("agents", 1_260, KEYSET.entries)
    assert old.recorded(KEYSET.changes[0]) == old
    assert (old.format, old.destroy_after_s) == (1, 0)
    assert KEYSET.format == 2


def test_a_long_record_does_not_make_a_keyset_that_cannot_be_read() -> None:
    longest = Change(1_795_424_400, "\U0001f642" * 255, "\U0001f642" * 255, "rotate", "k" * 119, "\U0001f642" * 500)
    full = KEYSET._replace(changes=(longest,) * 20)
    assert read(dump(full)) == full
    with pytest.raises(KeysetRefusedError, match="can be read again"):
        dump(full._replace(entries=KEYSET.entries * 6_000))
