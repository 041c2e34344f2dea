"""Sealing again, with an encryptor that is kept, gives what a fresh one gives, whatever it sealed before."""

from __future__ import annotations

import base64
import json
import pickle

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from encrypted_sessions.core.cipher import NotAnItem, SessionCipher, Unauthentic
from encrypted_sessions.core.envelope import Envelope, openings, pack, pack_row, parse, parse_row
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher, derive_session_key

KID = "name~00112233"
OLD, NEW = b"o" * 32, b"n" * 32


def fernet(secret: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(derive_session_key(secret, "s")))


def sealed(plaintext: bytes, timestamp: int) -> Envelope:
    token = fernet(OLD).encrypt_at_time(plaintext, timestamp)
    return envelope_of(base64.urlsafe_b64decode(token))


def envelope_of(token: bytes) -> Envelope:
    found = parse(pack(KID, token))
    assert isinstance(found, Envelope)
    return found


def token_of(row: str) -> bytes:
    found = parse_row(row)
    assert isinstance(found, Envelope)
    return found.body


@given(st.lists(st.tuples(st.text(max_size=70), st.integers(0, 2**63)), min_size=1, max_size=8))
def test_fernet_opens_each_token_with_its_own_time_whatever_came_before(items: list[tuple[str, int]]):
    opener = SessionCipher(OLD, "s", KID).opener(1)
    cipher = SessionCipher(NEW, "s", KID)
    for text, timestamp in items:
        plaintext = b'{"a": "' + text.encode("unicode_escape").replace(b'"', b"").replace(b"\\", b"") + b'"}'
        if any(byte < 32 for byte in plaintext):
            continue
        token = base64.urlsafe_b64encode(token_of(cipher.reseal_row(sealed(plaintext, timestamp), opener)))
        assert fernet(NEW).decrypt(token) == plaintext
        assert fernet(NEW).extract_timestamp(token) == timestamp


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=8))
def test_it_gives_the_same_bytes_as_a_fresh_encryptor_with_that_iv(plaintexts: list[bytes]):
    cipher = FernetCipher.derive(NEW, "s")
    envelope = sealed(b"{}", 7)
    for plaintext in plaintexts:
        token = cipher.reseal(envelope, plaintext)
        assert token == cipher._seal(plaintext, 7, token[9:25])


def test_every_token_has_an_iv_of_its_own():
    opener = FernetCipher.derive(OLD, "s").opener()
    cipher = FernetCipher.derive(NEW, "s")
    envelope = sealed(b"{}", 5)
    tokens = [cipher.reseal(envelope, opener.decrypt(envelope)) for _ in range(100)]
    assert len({token[9:25] for token in tokens}) == 100


@pytest.mark.parametrize("plaintext", [b"[]", b"", b"\xff", b"{", b'"a"'])
def test_what_is_no_item_is_not_resealed_and_the_next_one_is(plaintext: bytes):
    opener = SessionCipher(OLD, "s", KID).opener(1)
    cipher = SessionCipher(NEW, "s", KID)
    with pytest.raises(NotAnItem):
        cipher.reseal_row(sealed(plaintext, 5), opener)
    token = token_of(cipher.reseal_row(sealed(b"{}", 5), opener))
    assert fernet(NEW).decrypt(base64.urlsafe_b64encode(token)) == b"{}"


@pytest.mark.parametrize("place", [0x00, 0x08, 0x09, 0x18, 0x19, -33, -32, -1])
def test_an_altered_token_is_found_before(place: int):
    """Time, IV, ciphertext and HMAC: the IV alone once came through, as {'role': 'aser'}."""
    body = bytearray(FernetCipher.derive(OLD, "s").seal({"role": "user"}, 5))
    body[place] ^= 1
    if place == 0:  # then it is no token at all
        assert parse(pack(KID, bytes(body))) == "malformed"
        return
    envelope = envelope_of(bytes(body))
    opener = SessionCipher(OLD, "s", KID).opener(1)
    for refused in (
        lambda: opener.verify(envelope),
        lambda: opener.decrypt(envelope),
        lambda: opener.open(envelope),
        lambda: SessionCipher(NEW, "s", KID).reseal_row(envelope, opener),
    ):
        with pytest.raises(Unauthentic):
            refused()
    assert envelope.verified_by is None


def test_what_one_opener_verified_another_verifies_again():
    envelope = sealed(b"{}", 5)
    FernetCipher.derive(OLD, "s").opener().verify(envelope)
    with pytest.raises(Unauthentic):
        FernetCipher.derive(OLD, "another").opener().open(envelope)


@pytest.mark.parametrize("one", [SessionCipher(NEW, "s", KID), FernetCipher.derive(NEW, "s")])
def test_it_is_neither_shown_nor_pickled(one: SessionCipher | FernetCipher):
    assert "n" * 4 not in repr(one)
    with pytest.raises(TypeError):
        pickle.dumps(one)


def test_a_packed_row_is_what_pack_says_and_begins_like_its_label():
    token = FernetCipher.derive(NEW, "s").seal({"a": 1}, 5)
    row = pack_row(KID, token)
    parsed = parse_row(row)
    assert isinstance(parsed, Envelope)
    assert (parsed.kid, parsed.body) == (KID, token)
    assert pack(KID, token)["payload"] in row
    assert row.startswith(openings(KID))
    assert json.dumps(pack(KID, token)).startswith(openings(KID))
    assert json.dumps(pack(KID, token)).startswith(openings(None))
    assert row.startswith(openings(None))
    assert not row.startswith(openings("name~0011223"))
    assert not row.startswith(openings(KID + "4"))
