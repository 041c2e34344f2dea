"""Keys given in code and in environment variables."""

from __future__ import annotations

import os
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyproviders import InvalidKeyError, Key, KeyNotFoundError, KeyProvider, ProviderConfigError
from keyproviders.local import EnvKeyProvider, StaticKeyProvider

A, B, C = (Key.generate(name) for name in ("a", "b", "c"))
TEXT = Key(None, bytes(range(32))).reveal_base64()


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KEYS_OF_THIS_TEST", "")
    return "KEYS_OF_THIS_TEST"


def entry(key: Key) -> str:
    return f"{key.name}={key.reveal_base64()}" if key.name else key.reveal_base64()


def read(text: str) -> list[Key]:
    """The keys that a variable with this text holds, active first."""
    name = "KEYS_OF_THIS_READ"
    os.environ[name] = text
    try:
        provider = EnvKeyProvider(name)
        active = provider.active()
        return [active, *provider._read()._keys[1:]]
    finally:
        del os.environ[name]


def test_the_first_static_key_is_active_and_all_are_found_by_name() -> None:
    provider = StaticKeyProvider(A, B, C)
    assert isinstance(provider, KeyProvider)
    assert provider.active() is A
    assert [provider.get(key.name or "") for key in (A, B, C)] == [A, B, C]


def test_static_text_becomes_a_key_without_a_name_that_is_found_by_its_fingerprint() -> None:
    provider = StaticKeyProvider(A, TEXT)
    key = provider.get(Key(None, bytes(range(32))).fingerprint)
    assert (key.name, key.secret) == (None, bytes(range(32)))


def test_a_key_that_has_a_name_by_now_is_still_found_by_its_fingerprint() -> None:
    assert StaticKeyProvider(A, B).get(B.fingerprint) is B


def test_a_missing_key_is_not_found_and_the_message_lists_what_is_held() -> None:
    with pytest.raises(KeyNotFoundError, match="has no key 'z'") as caught:
        StaticKeyProvider(A, B).get("z")
    assert A.kid in str(caught.value)
    assert B.kid in str(caught.value)


def test_a_name_that_no_key_can_have_is_not_found() -> None:
    with pytest.raises(KeyNotFoundError, match="no key can have it"):
        StaticKeyProvider(A).get("not a name")


@pytest.mark.parametrize("given_key", [None, bytes(32), 5])
def test_a_static_key_of_a_wrong_type_is_a_type_error(given_key: object) -> None:
    with pytest.raises(TypeError, match="key 2 of 2 must be a Key or base64 text"):
        StaticKeyProvider(A, given_key)  # type: ignore[arg-type] # what is tested


def test_static_text_that_is_no_key_says_which_and_shows_nothing() -> None:
    with pytest.raises(InvalidKeyError, match="key 2 of 3 is not a key: it holds 31 bytes") as caught:
        StaticKeyProvider(A, TEXT[:42], B)
    assert TEXT[:20] not in str(caught.value)


def test_one_name_for_two_keys_and_a_key_that_comes_twice_are_refused() -> None:
    with pytest.raises(InvalidKeyError, match="keys 1 and 2 have the same name, 'a'"):
        StaticKeyProvider(A, Key.generate("a"))
    with pytest.raises(InvalidKeyError, match="keys 1 and 3 are the same key"):
        StaticKeyProvider(A, B, Key("a", A.secret))
    with pytest.raises(InvalidKeyError, match="keys 1 and 2 are the same key"):
        StaticKeyProvider(TEXT, TEXT)


def test_one_key_may_be_listed_under_several_names() -> None:
    again, plain = Key("again", A.secret), Key(None, A.secret)
    provider = StaticKeyProvider(A, B, again, plain)
    assert [provider.get(name) for name in ("a", "again", "b")] == [A, again, B]
    assert provider.get(A.fingerprint).secret == A.secret
    assert provider.names() == {
        "a": A.fingerprint,
        "again": A.fingerprint,
        "b": B.fingerprint,
        A.fingerprint: A.fingerprint,
        B.fingerprint: B.fingerprint,
    }


def test_a_repr_shows_kids_only() -> None:
    assert repr(StaticKeyProvider(A, B)) == f"<StaticKeyProvider {A.kid}, {B.kid}>"
    assert repr(EnvKeyProvider("X")) == "<EnvKeyProvider env:X>"


def test_a_variable_is_read_at_each_call(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = EnvKeyProvider(variable)
    monkeypatch.setenv(variable, entry(A))
    assert provider.active() == A
    monkeypatch.setenv(variable, f"{entry(B)},{entry(A)}")
    assert provider.active() == B
    assert provider.get("a") == A


@given(
    keys=st.lists(
        st.tuples(st.none() | st.text("abcXYZ019._-", min_size=1, max_size=30), st.binary(min_size=32, max_size=32)),
        min_size=1,
        max_size=6,
        unique_by=(lambda pair: pair[0] or pair[1], lambda pair: pair[1]),
    ),
    separator=st.sampled_from([",", "\n", ", ", ",\n", "\r\n", "\n\n", " , "]),
    end=st.sampled_from(["", "\n", ",", ",\n", "  "]),
)
def test_any_list_of_keys_is_read_back_in_order(keys: list[tuple[str | None, bytes]], separator: str, end: str) -> None:
    made = [Key(name, secret) for name, secret in keys]
    assert read(separator.join(entry(key) for key in made) + end) == made


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=120))
def test_any_text_is_keys_or_an_error_that_shows_nothing_of_it(text: str) -> None:
    try:
        read(text)
    except InvalidKeyError as error:
        shown = str(error)
    else:
        return
    words = [word for word in text.replace(",", " ").replace("=", " ").split() if len(word) > 12]
    assert not any(word in shown for word in words)


def test_a_key_with_a_typing_mistake_is_not_shown_as_a_name() -> None:
    mistyped = TEXT[:10] + TEXT[11:]  # splits at its padding: the "name" is key material
    assert mistyped.endswith("=")
    with pytest.raises(InvalidKeyError, match=r"entry 2 of 3 \(43 characters\) is not a key") as caught:
        read(f"{entry(A)},{mistyped},{entry(B)}")
    assert mistyped[:10] not in str(caught.value)
    assert mistyped[-10:-1] not in str(caught.value)


def test_two_keys_that_ran_together_are_refused_for_a_name_is_public() -> None:
    with pytest.raises(InvalidKeyError, match="two keys without a separator") as caught:
        read(TEXT + A.reveal_base64())
    assert TEXT[:10] not in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_an_empty_variable_is_no_key(text: str) -> None:
    with pytest.raises(InvalidKeyError, match="env:KEYS_OF_THIS_READ is empty"):
        read(text)


@pytest.mark.parametrize("text", [",{a}", "{a},,{b}", ",\n{a}", "{a}\n,{b}"])
def test_an_entry_that_a_template_left_empty_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError, match=r"entry \d of \d is empty"):
        read(text.format(a=entry(A), b=entry(B)))


def test_a_name_without_a_key_is_refused() -> None:
    with pytest.raises(InvalidKeyError, match=r"after its first '='.*it is empty"):
        read("new=")


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ProviderConfigError, match="variable NO_SUCH_VARIABLE_HERE is not set"):
        EnvKeyProvider("NO_SUCH_VARIABLE_HERE").active()


def test_construction_reads_nothing() -> None:
    EnvKeyProvider("NO_SUCH_VARIABLE_HERE")


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "//A", "Ä"])
def test_what_is_no_name_of_a_variable_is_refused(name: str) -> None:
    with pytest.raises(ProviderConfigError, match="name of an environment variable"):
        EnvKeyProvider(name)


def test_a_key_where_a_variable_belongs_is_refused_and_not_shown() -> None:
    try:
        EnvKeyProvider(TEXT.rstrip("="))
    except ProviderConfigError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    else:
        pytest.fail("nothing was refused")
    assert "a key was given instead of the name" in shown
    assert TEXT[:20] not in shown


def test_a_variable_name_of_a_wrong_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="variable must be a str"):
        EnvKeyProvider(None)  # type: ignore[arg-type] # what is tested


def test_a_bad_entry_leaves_no_key_in_a_traceback_with_locals() -> None:
    try:
        read(f"{entry(A)},{TEXT}x")
    except InvalidKeyError as error:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown = "".join(step for step in found.format() if "test_local.py" not in step)
    else:
        pytest.fail("nothing was refused")
    for form in (TEXT[:20], A.reveal_base64()[:20], repr(A.secret)[2:20]):
        assert form not in shown
