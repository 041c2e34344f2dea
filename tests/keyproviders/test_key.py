"""A key: what it shows, what it hides, and what it refuses."""

from __future__ import annotations

import base64
import copy
import pickle
import traceback
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from keyproviders import InvalidKeyError, Key, decode_key_text, parse_kid

SENTINEL = bytes(range(100, 132))
KNOWN = Key("2024", bytes(32))


def forms(secret: bytes) -> list[str]:
    """Every way in which a leaked secret could be written."""
    urlsafe = base64.urlsafe_b64encode(secret).decode()
    standard = base64.b64encode(secret).decode()
    return [secret.decode("latin-1"), secret.hex(), urlsafe.rstrip("="), standard.rstrip("="), repr(secret)[2:-1]]


def test_the_fingerprint_is_hkdf_sha256_with_an_empty_salt() -> None:
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=b"", info=b"encrypted-sessions.kid.v1")
    assert Key(None, SENTINEL).fingerprint == hkdf.derive(SENTINEL).hex()[:8]


def test_the_fingerprint_of_a_known_secret_never_changes() -> None:
    # From an HMAC-only computation of RFC 5869 (extract with 32 zero bytes, one round of expand).
    import hashlib
    import hmac

    pseudo_random = hmac.new(bytes(32), bytes(32), hashlib.sha256).digest()
    expanded = hmac.new(pseudo_random, b"encrypted-sessions.kid.v1\x01", hashlib.sha256).digest()
    assert KNOWN.fingerprint == expanded.hex()[:8] == "fda2726f"


def test_a_kid_is_the_name_and_the_fingerprint() -> None:
    assert KNOWN.kid == f"2024~{KNOWN.fingerprint}"
    assert Key(None, bytes(32)).kid == f"~{KNOWN.fingerprint}"


def test_a_generated_key_is_32_bytes_and_never_the_same() -> None:
    keys = {Key.generate("a").secret for _ in range(50)}
    assert len(keys) == 50
    assert {len(secret) for secret in keys} == {32}


@pytest.mark.parametrize("name", ["", "a b", "a~b", "é", "a" * 120, "a/b", "a\n"])
def test_a_name_outside_the_alphabet_is_refused_without_being_shown(name: str) -> None:
    with pytest.raises(ValueError, match="a key's name must be 1 to 119 characters") as caught:
        Key(name, SENTINEL)
    assert not name or name not in str(caught.value).replace("A-Z a-z 0-9", "") or len(name) < 4


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_secret_of_a_wrong_length_tells_the_length_only(length: int) -> None:
    secret = (SENTINEL * 3)[:length]
    with pytest.raises(InvalidKeyError, match=f"must be 32 bytes; {length} were given") as caught:
        Key("a", secret)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("secret", [bytearray(32), "a" * 44, None, 32, memoryview(bytes(32))])
def test_a_secret_that_is_no_bytes_is_a_type_error(secret: object) -> None:
    with pytest.raises(TypeError, match="a key's secret must be bytes"):
        Key("a", secret)  # type: ignore[arg-type] # what is tested


@pytest.mark.parametrize("name", [b"a", 1, ["a"]])
def test_a_name_that_is_no_str_is_a_type_error(name: object) -> None:
    with pytest.raises(TypeError, match="a key's name must be a str or None"):
        Key(name, bytes(32))  # type: ignore[arg-type] # what is tested


def test_a_time_must_be_aware_and_in_utc() -> None:
    now = datetime.now(timezone.utc)
    assert Key("a", bytes(32), now).created_at == now
    with pytest.raises(ValueError, match="aware and in UTC"):
        Key("a", bytes(32), now.replace(tzinfo=None))
    with pytest.raises(ValueError, match="aware and in UTC"):
        Key("a", bytes(32), now.astimezone(timezone(timedelta(hours=1))))
    with pytest.raises(TypeError, match="must be a datetime or None"):
        Key("a", bytes(32), 1.5)  # type: ignore[arg-type] # what is tested


def test_a_key_says_until_when_it_may_have_written_and_is_the_same_key_without_that() -> None:
    until = datetime(2027, 1, 15, 8, tzinfo=timezone.utc)
    key = Key("a", SENTINEL, written_until=until)
    assert (key.written_until, Key("a", SENTINEL).written_until) == (until, None)
    assert key == Key("a", SENTINEL)
    assert hash(key) == hash(Key("a", SENTINEL))
    assert repr(key) == repr(Key("a", SENTINEL))
    assert copy.copy(key) is key
    with pytest.raises(TypeError):
        Key("a", SENTINEL, None, until)  # type: ignore[misc] # by its name alone


def test_a_key_cannot_be_changed() -> None:
    key = Key("a", SENTINEL)
    for name in ("name", "secret", "kid", "written_until", "anything"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(key, name, "b")
        with pytest.raises(AttributeError, match="cannot be changed"):
            delattr(key, name)
    assert not hasattr(key, "__dict__")


def test_a_key_cannot_be_pickled_and_a_copy_is_itself() -> None:
    key = Key("a", SENTINEL)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(key, protocol)
    assert copy.copy(key) is key
    assert copy.deepcopy([key])[0] is key


def test_keys_are_equal_by_name_and_secret_and_hash_alike() -> None:
    assert Key("a", SENTINEL) == Key("a", SENTINEL, datetime.now(timezone.utc))
    assert hash(Key("a", SENTINEL)) == hash(Key("a", SENTINEL))
    assert Key("a", SENTINEL) != Key("b", SENTINEL)
    assert Key("a", SENTINEL) != Key("a", bytes(32))
    assert Key("a", SENTINEL) != SENTINEL


def test_a_repr_shows_the_kid_and_no_byte_of_the_secret() -> None:
    key = Key("a", SENTINEL)
    assert repr(key) == f"<Key {key.kid}>" == str(key) == f"{key}"


def test_what_reveals_the_secret_says_so_and_is_read_back() -> None:
    key = Key("a", SENTINEL)
    assert key.reveal_base64() == base64.urlsafe_b64encode(SENTINEL).decode()
    assert decode_key_text(key.reveal_base64()) == SENTINEL


def test_a_traceback_with_locals_shows_no_secret() -> None:
    def by_key() -> None:
        Key("no good name", bytes(SENTINEL))

    def by_text() -> None:
        decode_key_text("*" + base64.b64encode(SENTINEL).decode())

    def by_name() -> None:
        Key.generate(base64.b64encode(SENTINEL).decode())

    def by_setting() -> None:
        Key("a", bytes(32)).secret = bytes(SENTINEL)  # type: ignore[misc] # what is tested

    for mistake in (by_key, by_text, by_name, by_setting):
        try:
            mistake()
        except (ValueError, AttributeError) as error:
            shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        else:
            pytest.fail("nothing was refused")
        for form in forms(SENTINEL):
            assert form not in shown.replace("SENTINEL", "")


@given(secret=st.binary(min_size=32, max_size=32), padded=st.booleans(), around=st.text(" \t\r\n\v\f", max_size=4))
def test_standard_and_urlsafe_base64_are_read_with_and_without_padding(
    secret: bytes, padded: bool, around: str
) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(secret).decode()
        assert decode_key_text(around + (text if padded else text.rstrip("=")) + around) == secret


@given(secret=st.binary(max_size=80).filter(lambda secret: len(secret) != 32))
def test_another_length_is_refused(secret: bytes) -> None:
    with pytest.raises(InvalidKeyError):
        decode_key_text(base64.b64encode(secret).decode())


@given(
    secret=st.binary(min_size=32, max_size=32),
    stray=st.characters().filter(lambda sign: not (sign.isascii() and sign.isalnum())),
    at=st.integers(1, 42),
)
def test_a_stray_character_inside_is_refused(secret: bytes, stray: str, at: int) -> None:
    text = base64.b64encode(secret).decode().replace("+", "A").replace("/", "B").rstrip("=")
    for broken in (text[:at] + stray + text[at:], text[:at] + "=" + text[at + 1 :]):
        with pytest.raises(InvalidKeyError):
            decode_key_text(broken)


@given(text=st.text(max_size=60))
def test_any_text_is_a_key_or_an_error_that_does_not_show_it(text: str) -> None:
    try:
        assert len(decode_key_text(text)) == 32
    except InvalidKeyError as error:
        shown = str(error)
    else:
        return
    assert len(text.strip()) < 8 or text.strip() not in shown


def test_each_way_in_which_text_is_no_key_has_words_of_its_own() -> None:
    good = base64.urlsafe_b64encode(SENTINEL).decode()
    for text, words in {
        "": "it is empty",
        " \n": "it is empty",
        good + "=": "its padding does not fit",
        good[:-1] + "==": "its padding does not fit",
        good[:-2]: "it holds 31 bytes, but a key has 32",
        good[:-3]: "its length of 41 characters is not possible in base64",
        "+_" + good[2:]: "it mixes the standard and the urlsafe alphabet",
        "a b" + good[3:]: "a character that is not in the base64 alphabet",
        good[:-2] + "B=": "bits that do not belong to any byte",
    }.items():
        with pytest.raises(InvalidKeyError, match=words):
            decode_key_text(text)


@pytest.mark.parametrize("text", [b"a", None, 5])
def test_key_text_that_is_no_str_is_a_type_error(text: object) -> None:
    with pytest.raises(TypeError, match="key text must be a str"):
        decode_key_text(text)  # type: ignore[arg-type] # what is tested


@given(name=st.none() | st.text("abcXYZ019._-", min_size=1, max_size=119), secret=st.binary(min_size=32, max_size=32))
def test_a_kid_is_split_into_what_it_was_made_of(name: str | None, secret: bytes) -> None:
    key = Key(name, secret)
    assert parse_kid(key.kid) == (name, key.fingerprint)


@pytest.mark.parametrize(
    "kid",
    [
        *("", "~", "hkdf-v1", "a~b", "a~0123456", "a~012345678", "a~0123456G", "a~ABCDEF01", "a b~01234567"),
        *("a~b~01234567", "a" * 120 + "~01234567", "é~01234567", "a~01234567\n", "~0123456\u0667"),
    ],
)
def test_a_malformed_kid_is_none(kid: str) -> None:
    assert parse_kid(kid) is None


def test_a_kid_that_is_no_str_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="kid must be a str"):
        parse_kid(None)  # type: ignore[arg-type] # what is tested
