"""Suite 2: its published vectors, a second implementation, and whatever may be done to a row."""

from __future__ import annotations

import base64
import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from encrypted_sessions.core import exact_json
from encrypted_sessions.core.cipher import NotAnItem, SessionCipher, Unauthentic
from encrypted_sessions.core.envelope import Envelope, parse, parse_row
from encrypted_sessions.core.exact_json import TooLongError
from encrypted_sessions.core.padding import padded
from encrypted_sessions.core.suites import aes_gcm_v2
from encrypted_sessions.core.suites.aes_gcm_v2 import AesGcmCipher, AesGcmEnvelope, decode_base64
from encrypted_sessions_tests.json_values import items, same
from encrypted_sessions_tests.suite_2 import NEVER, aad_of, derived, open_row, seal_row

VECTORS = json.loads((Path(__file__).parent / "suite_2_vectors.json").read_text(encoding="utf-8"))
GOOD = {vector["name"]: vector for vector in VECTORS["good"]}
BAD = {vector["name"]: vector for vector in VECTORS["bad"]}
FIRST = next(iter(GOOD.values()))

KID = "name~00112233"
SECRET = bytes(range(32))
NOW = 1_800_000_000
ITEM = {"role": "user", "content": "what was said"}

#: The header by its parts: where each begins, and what it is called.
PARTS = {
    "flags": range(1),
    "g": range(1, 2),
    "m": range(2, 3),
    "created": range(3, 8),
    "expires": range(8, 13),
    "parent": range(13, 21),
    "parent's expires": range(21, 26),
    "age": range(26, 28),
    "commitment": range(28, 60),
    "nonce": range(60, 72),
    "own id": range(72, 84),
    "refs": range(84, 100),
    "more parents": range(100, 126),
}
#: A row that has all of them.
FULL = seal_row(
    json.dumps(ITEM).encode(),
    KID,
    SECRET,
    "s",
    NOW,
    NOW + 600,
    realm="r",
    flags=1,
    link=b"parent!!" + (NOW + 5).to_bytes(5, "big") + b"\0\7",
    more=bytes(range(54)),
    counts=(2, 2),
)
FULL_PLACE = {"session_id": "s", "realm": "r"}
FULL_BODY = base64.b64decode(FULL["p"])


def quoted(stored: dict[str, Any]) -> bytes:
    """A body as a reader takes it."""
    return b'"%b"' % stored["p"].encode()


def with_body(body: bytes) -> dict[str, Any]:
    return {**FULL, "p": base64.b64encode(body).decode("ascii")}


def outcome(stored: object, *, secret: bytes = SECRET, session_id: str = "s", realm: str = "r") -> str:
    """What a row is to whoever holds one key. The kid decides which that is, and is looked up before."""
    found = parse(stored)
    if not isinstance(found, Envelope):
        return found if isinstance(found, str) else "plaintext"
    opener = SessionCipher(secret, session_id, KID, realm).opener(found.version)
    try:
        assert opener.open(found) == ITEM
    except Unauthentic:
        assert found.verified_by is None
        return "unauthentic"
    except NotAnItem:
        return "malformed"
    return "ok"


# -- The vectors ----------------------------------------------------------------------------------


def cipher_of(vector: dict[str, Any], **options: Any) -> SessionCipher:
    secret = bytes.fromhex(vector["secret"])
    return SessionCipher(secret, vector["session_id"], vector["kid"], vector["realm"], **options)


@pytest.mark.parametrize("name", GOOD)
def test_a_published_row_opens_here_and_by_the_second_implementation(name: str) -> None:
    vector = GOOD[name]
    envelope = parse_row(vector["row"])
    assert isinstance(envelope, AesGcmEnvelope)
    assert (envelope.kid, envelope.timestamp) == (vector["kid"], vector["created"])
    assert envelope.expires == vector["expires"]
    assert envelope.text_start == vector["header_length"]
    assert cipher_of(vector).opener(2).open(envelope) == vector["item"]
    second = open_row(vector["row"], bytes.fromhex(vector["secret"]), vector["session_id"], vector["realm"])
    assert second.item == vector["item"]
    assert second.aad.hex() == vector["aad"]
    assert len(second.plaintext) == vector["plaintext_length"]
    assert [second.flags, second.created, second.parent_expires, second.age] == [
        vector[key] for key in ("flags", "created", "parent_expires", "age")
    ]
    assert second.expires == (NEVER if vector["expires"] is None else vector["expires"])
    assert [second.parent.hex(), second.nonce.hex(), second.id.hex(), second.commitment.hex()] == [
        vector[key] for key in ("parent", "nonce", "id", "commitment")
    ]
    key, _ = derived(bytes.fromhex(vector["secret"]), vector["session_id"], vector["realm"], vector["created"])
    assert key.hex() == vector["key"]


@pytest.mark.parametrize(
    "name", [name for name, vector in GOOD.items() if vector["flags"] in (0, 2) and not vector["parent_expires"]]
)
def test_the_published_bytes_are_what_is_sealed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the flag: rows without links say so."""
    vector = GOOD[name]
    monkeypatch.setattr(aes_gcm_v2.os, "urandom", lambda count: bytes.fromhex(vector["nonce"])[:count])
    sealed = cipher_of(vector, suite=2).seal(
        vector["item"],
        vector["created"],
        vector["expires"],
        pad=name == "padded",
    )
    published = json.loads(vector["row"])
    former, made = (base64.b64decode(one["p"]) for one in (published, sealed))
    assert {**sealed, "p": None} == {**published, "p": None}
    assert list(sealed) == list(published)
    assert made[0] == 2
    assert made[1:72] == former[1:72]
    assert made[72:-16] == former[72:-16]
    assert len(made) == len(former)
    assert (made[-16:] == former[-16:]) == (vector["flags"] == 2)


@pytest.mark.parametrize("name", BAD)
def test_a_published_row_that_was_altered_does_not_open(name: str) -> None:
    vector = BAD[name]
    found = parse_row(vector["row"])
    if isinstance(found, Envelope):
        assert vector["outcome"] in ("unauthentic", "unknown_key")
        with pytest.raises(Unauthentic):
            cipher_of(FIRST).opener(found.version).open(found)
    else:
        assert found == vector["outcome"]


def test_golden_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written down once: what a release has sealed every later one reads, and seals alike."""
    monkeypatch.setattr(aes_gcm_v2.os, "urandom", lambda count: bytes(range(count)))
    row = SessionCipher(SECRET, "s\u00e9ance", KID, "staging", 2).seal_row({"a": [1, "\u00e9"]}, NOW, NOW + 600)
    assert row == (
        '{"__enc__":1,"v":2,"kid":"name~00112233","p":"AgAAAGtJ0gAAa0nUWAAAAAAAAAAAAAAAAAAAAHKMvLe//yiBXt5roOXNPXLLCx1q'
        'xL37EETdl51IdYQPAAECAwQFBgcICQoLefP/t0QgK7ecBKv0vayQlfKvoB6SkDm9JZPTaFTv"}'
    )
    assert open_row(row, SECRET, "s\u00e9ance", "staging").item == {"a": [1, "\u00e9"]}


# -- The two implementations ----------------------------------------------------------------------


def ids() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=70)


@given(items(), ids(), ids() | st.just(""), st.integers(0, NEVER), st.none() | st.integers(0, NEVER - 1), st.booleans())
def test_each_opens_what_the_other_seals(
    item: dict[str, Any], session_id: str, realm: str, created: int, expires: int | None, pad: bool
) -> None:
    cipher = SessionCipher(SECRET, session_id, KID, realm, 2)
    second = open_row(cipher.seal(item, created, expires, pad=pad), SECRET, session_id, realm)
    assert same(json.loads(second.plaintext), json.loads(exact_json.encode_item(item)))
    assert (second.created, second.expires, second.flags) == (created, NEVER if expires is None else expires, 2)
    assert (second.parent, second.parent_expires, second.age, second.gone, second.also) == (bytes(8), 0, 0, [], [])
    assert not pad or len(second.plaintext) >= 256
    other = seal_row(second.plaintext, KID, SECRET, session_id, created, expires, realm=realm)
    found = parse(other)
    assert isinstance(found, Envelope)
    assert same(cipher.opener(2).open(found), json.loads(second.plaintext))


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 1_000, 4_097, 70_000, 1_000_000])
def test_padding_hides_lengths_and_adds_little(length: int) -> None:
    text = padded(b"x" * length)
    assert text.rstrip() == b"x" * length
    assert 256 <= len(text) <= max(256, length * 1.12)
    digits = len(text).bit_length() - 1
    assert len(text) % 2 ** (digits - digits.bit_length()) == 0


def test_what_padding_makes_too_long_is_refused() -> None:
    for suite in (1, 2):
        cipher = SessionCipher(SECRET, "s", KID, suite=suite)
        assert cipher.seal({"a": "x" * 100}, NOW, max_bytes=255)
        with pytest.raises(TooLongError):
            cipher.seal({"a": "x" * 100}, NOW, max_bytes=255, pad=True)


def test_a_thousand_characters_become_no_more_than_half_as_many_again() -> None:
    item = {"content": "x" * (1_031 - len('{"content":""}'))}
    assert len(json.dumps(SessionCipher(SECRET, "s", "2026-11~f7c38933", suite=2).seal(item, NOW))) <= 1_550


def test_every_row_has_a_nonce_of_its_own() -> None:
    cipher = SessionCipher(SECRET, "s", KID, suite=2)
    rows = [open_row(cipher.seal(ITEM, NOW), SECRET, "s") for _ in range(100)]
    former = parse(seal_row(b"{}", KID, SECRET, "s", NOW))
    assert isinstance(former, Envelope)
    rows += [open_row(cipher.reseal_row(former, cipher.opener(2)), SECRET, "s") for _ in range(100)]
    assert len({row.nonce for row in rows}) == 200


# -- Whatever is done to a row --------------------------------------------------------------------


def test_the_row_that_is_altered_here_opens() -> None:
    assert outcome(FULL) == "ok"
    assert len(open_row(FULL, SECRET, "s", "r").header) == PARTS["more parents"].stop


@pytest.mark.parametrize("part", [*PARTS, "ciphertext", "tag"])
def test_no_byte_of_any_part_can_be_changed(part: str) -> None:
    size = len(FULL_BODY)
    places = {**PARTS, "ciphertext": range(126, size - 16), "tag": range(size - 16, size)}[part]
    for at in places:
        for change in (1, 0x80, 0xFF):
            body = bytearray(FULL_BODY)
            body[at] ^= change
            assert outcome(with_body(bytes(body))) in ("unauthentic", "malformed"), at


def test_ten_thousand_random_changes_are_found() -> None:
    rng = random.Random(19)
    cipher = SessionCipher(SECRET, "s", KID, "r")
    text = json.dumps(FULL)
    for _ in range(10_000):
        at, body = rng.randrange(len(FULL_BODY)), bytearray(FULL_BODY)
        match rng.randrange(4):
            case 0:
                body[at] ^= rng.randrange(1, 256)
            case 1:
                del body[at : at + rng.randrange(1, 40)]
            case 2:
                body[at:at] = rng.randbytes(rng.randrange(1, 40))
            case _:
                other = rng.randrange(len(FULL_BODY))
                body[at], body[other] = body[other], body[at]
        row = (
            text.replace(FULL["p"], base64.b64encode(body).decode("ascii"))
            if rng.random() < 0.5
            else with_body(bytes(body))
        )
        found = parse_row(row) if isinstance(row, str) else parse(row)
        if body == FULL_BODY or not isinstance(found, Envelope):
            continue
        with pytest.raises(Unauthentic):
            cipher.opener(2).decrypt(found)


@given(st.sampled_from(["session_id", "realm"]), st.text(max_size=6))
def test_another_session_or_realm_does_not_open_it(which: str, text: str) -> None:
    if text != FULL_PLACE[which]:
        assert outcome(FULL, **{which: text}) == "unauthentic"


def test_no_two_places_run_into_each_other() -> None:
    """The lengths are part of what keys come from: "ab" and "c" are not "a" and "bc"."""
    sealed = SessionCipher(SECRET, "c", KID, "ab", 2).seal(ITEM, NOW)
    assert outcome(sealed, session_id="c", realm="ab") == "ok"
    for session_id, realm in (("bc", "a"), ("abc", ""), ("ab", "c"), ("c", "ab\0")):
        assert outcome(sealed, session_id=session_id, realm=realm) == "unauthentic"


@pytest.mark.parametrize(
    "kid", ["~00112233", "name~00112234", "Name~00112233", "", "é", "\ud800", "k" * 255, "k" * 256]
)
def test_a_key_that_answers_to_another_kid_opens_nothing_under_it(kid: str) -> None:
    """A key of this fingerprint answers to `~00112233` too: what is authenticated is what the row names."""
    assert outcome({**FULL, "kid": kid}) == "unauthentic"


def test_a_row_that_was_sealed_under_the_fingerprint_alone_opens_under_it() -> None:
    assert outcome(seal_row(json.dumps(ITEM).encode(), "~00112233", SECRET, "s", NOW, realm="r")) == "ok"


def test_an_envelope_of_the_other_suite_is_unauthentic() -> None:
    cipher = SessionCipher(SECRET, "s", KID, "r")
    fernet, gcm = parse(cipher.seal(ITEM, NOW)), parse(FULL)
    assert isinstance(fernet, Envelope)
    assert isinstance(gcm, Envelope)
    for opener, envelope in ((cipher.opener(2), fernet), (cipher.opener(1), gcm)):
        with pytest.raises(Unauthentic):
            opener.decrypt(envelope)


# -- One ciphertext, two keys ---------------------------------------------------------------------

_R = 0xE1 << 120


def times(one: int, other: int) -> int:
    """In the field of GCM (SP 800-38D, section 6.3)."""
    product = 0
    for bit in range(127, -1, -1):
        if other >> bit & 1:
            product ^= one
        one = one >> 1 ^ (_R if one & 1 else 0)
    return product


def inverse(one: int) -> int:
    result, power = 1 << 127, one
    for _ in range(127):
        power = times(power, power)
        result = times(result, power)
    return result


def blocks(data: bytes) -> list[int]:
    data += bytes(-len(data) % 16)
    return [int.from_bytes(data[at : at + 16], "big") for at in range(0, len(data), 16)]


def accepted_by_both(keys: tuple[bytes, bytes], nonce: bytes, aad: bytes, length: int) -> bytes:
    """A ciphertext of so many blocks, with its tag, that GCM opens with either key: its first block is solved for."""
    hashed, masks = [], []
    words = [*blocks(aad), 0, *blocks(b"attacker" * 2 * (length - 1))]
    words.append(len(aad) * 8 << 64 | length * 128)
    for key in keys:
        block = AES.new(key, AES.MODE_ECB)
        h = int.from_bytes(block.encrypt(bytes(16)), "big")
        total = 0
        for word in words:
            total = times(total ^ word, h)
        weight = 1 << 127
        for _ in range(length + 1):  # of the first block: so many more multiplications follow
            weight = times(weight, h)
        hashed.append((total, weight))
        masks.append(int.from_bytes(block.encrypt(nonce + b"\0\0\0\1"), "big"))
    (total_1, weight_1), (total_2, weight_2) = hashed
    solved = times(total_1 ^ total_2 ^ masks[0] ^ masks[1], inverse(weight_1 ^ weight_2))
    tag = total_1 ^ times(solved, weight_1) ^ masks[0]
    return solved.to_bytes(16, "big") + b"attacker" * 2 * (length - 1) + tag.to_bytes(16, "big")


def test_a_ciphertext_that_two_keys_accept_opens_under_one_at_most() -> None:
    secrets = (b"a" * 32, b"b" * 32)
    (key_1, commitment_1), (key_2, commitment_2) = (derived(secret, "s", "", NOW) for secret in secrets)
    for commitment, expected in (
        (commitment_1, [True, False]),
        (commitment_2, [False, True]),
        (bytes(32), [False, False]),
    ):
        header = b"\2\0\0" + FULL_BODY[3:28] + commitment + b"n" * 12
        aad = aad_of(KID, header)
        both = accepted_by_both((key_1, key_2), b"n" * 12, aad, 5)
        for key in (key_1, key_2):
            assert AESGCM(key).decrypt(b"n" * 12, both, aad)  # which is what makes this a test
        row = with_body(header + both)
        found = parse(row)
        assert isinstance(found, Envelope)
        opened = []
        for secret in secrets:
            try:
                opened.append(bool(SessionCipher(secret, "s", KID).opener(2).decrypt(found)))
            except Unauthentic:
                opened.append(False)
        assert opened == expected
        by_reader = []
        for secret in secrets:
            with mock.patch.multiple(aes_gcm_v2, accelerator=lambda: None, decode_item=lambda text: {"": text}):
                read = SessionCipher(secret, "s", KID).opener(2).reader(KID, lambda _: True)
            good = SessionCipher(secret, "s", KID, suite=2).seal(ITEM, NOW)
            assert read(quoted(good)) is not None
            # Again and again: what one row was refused for is not taken for granted of the next one.
            by_reader.append({read(quoted(row)) is not None for _ in range(3)})
        assert by_reader == [{one} for one in expected]


# -- Keys of epochs -------------------------------------------------------------------------------


def note_expansions(monkeypatch: pytest.MonkeyPatch, made: list[bytes]) -> None:
    """Have the `info` of every key and commitment that is derived from now on put into a list."""
    expand = aes_gcm_v2.HKDFExpand

    def noted(algorithm: Any, length: int, info: bytes) -> Any:
        made.append(info)
        return expand(algorithm, length, info)

    monkeypatch.setattr(aes_gcm_v2, "HKDFExpand", noted)


def test_a_key_serves_65536_seconds_and_no_more() -> None:
    cipher = SessionCipher(SECRET, "s", KID, suite=2)
    start = NOW >> 16 << 16
    rows = [open_row(cipher.seal(ITEM, at), SECRET, "s") for at in (start - 1, start, start + 65_535, start + 65_536)]
    assert [row.commitment == rows[1].commitment for row in rows] == [False, True, True, False]


def test_times_that_somebody_made_up_put_out_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    note_expansions(monkeypatch, made)
    cipher = SessionCipher(SECRET, "s", KID, "r", 2)
    opener = cipher.opener(2)
    good = parse(FULL)
    assert isinstance(good, Envelope)
    assert opener.open(good) == ITEM
    made.clear()
    for number in range(1_000):
        body = bytearray(FULL_BODY)
        body[3:8] = (number << 16).to_bytes(5, "big")
        forged = parse(with_body(bytes(body)))
        assert isinstance(forged, Envelope)
        with pytest.raises(Unauthentic):
            opener.decrypt(forged)
    assert len(made) == 1_000  # the commitment of each, and no key
    assert all(b".commitment" in info for info in made)
    made.clear()
    assert opener.open(good) == ITEM
    assert made == []


def test_keys_of_256_epochs_are_kept_and_the_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cipher = SessionCipher(SECRET, "s", KID, "r", 2)
    rows = [parse(cipher.seal(ITEM, epoch << 16)) for epoch in range(257)]
    opener = SessionCipher(SECRET, "s", KID, "r", 2).opener(2)
    made: list[bytes] = []
    note_expansions(monkeypatch, made)

    def is_made_anew(index: int) -> bool:
        made.clear()
        envelope = rows[index]
        assert isinstance(envelope, Envelope)
        assert opener.open(envelope) == ITEM
        return bool(made)

    assert all(map(is_made_anew, range(256)))
    assert not any(map(is_made_anew, [255, 128, 0]))
    assert is_made_anew(256)
    assert not is_made_anew(0)
    assert is_made_anew(1)


def test_several_threads_seal_and_open_with_one_cipher() -> None:
    cipher = SessionCipher(SECRET, "s", KID, suite=2)

    def work(thread: int) -> None:
        opener = cipher.opener(2)
        for number in range(300):
            item = {"n": thread * 1_000 + number}
            envelope = parse(cipher.seal(item, NOW + (number % 300 << 16)))  # more epochs than are kept
            assert isinstance(envelope, Envelope)
            assert opener.open(envelope) == item

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


# -- Sealing again --------------------------------------------------------------------------------

NEW = b"n" * 32


def resealed(stored: dict[str, Any], **options: Any) -> str:
    envelope = parse(stored)
    assert isinstance(envelope, Envelope)
    opener = SessionCipher(SECRET, "s", KID, "r").opener(envelope.version)
    return SessionCipher(NEW, "s", "new~44556677", "r").reseal_row(envelope, opener, **options)


@pytest.mark.parametrize("options", [{}, {"suite": 2}, {"suite": 2, "expires": 5}, {"suite": 2, "expires": None}])
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_sealed_again_a_row_says_the_same_of_itself_under_another_nonce(flags: int, options: dict[str, Any]) -> None:
    own = b"own id here!" if flags & 1 else b""
    link = b"parent!!" + (NOW + 5).to_bytes(5, "big") + b"\0\7"
    more = own + b"12345678" * 3 + b"another!\0\0\0\0\1"
    stored = seal_row(
        b'{"a": 1}  \n', KID, SECRET, "s", NOW, NOW + 9, realm="r", flags=flags, link=link, more=more, counts=(3, 1)
    )
    before, after = open_row(stored, SECRET, "s", "r"), open_row(resealed(stored, **options), NEW, "s", "r")
    assert after.flags == flags | 1
    assert after.id == before.id == (own or before.nonce)
    assert after.nonce != before.nonce
    kept = ("created", "expires", "parent", "parent_expires", "age", "gone", "also", "plaintext")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    again = open_row(resealed(json.loads(stored_under_first(after, flags | 1))), NEW, "s", "r")
    assert again.id == before.id


def stored_under_first(row: Any, flags: int) -> str:
    link = row.parent + row.parent_expires.to_bytes(5, "big") + row.age.to_bytes(2, "big")
    counts = (len(row.gone), len(row.also))
    more = row.header[72:]
    return json.dumps(
        seal_row(
            row.plaintext,
            KID,
            SECRET,
            "s",
            row.created,
            row.expires,
            realm="r",
            flags=flags,
            link=link,
            more=more,
            counts=counts,
        )
    )


@pytest.mark.parametrize("expires", [None, NOW + 77, NOW - 5])
def test_from_suite_1_the_time_is_that_of_the_token_and_the_end_what_was_said(expires: int | None) -> None:
    stored = SessionCipher(SECRET, "s", KID, "r").seal(ITEM, NOW)
    row = open_row(resealed(stored, suite=2, expires=expires), NEW, "s", "r")
    assert (row.flags, row.created, row.expires) == (2, NOW, NEVER if expires is None else expires)
    assert (row.id, row.item) == (row.nonce, ITEM)


def test_from_suite_1_an_end_has_to_be_said_and_without_another_suite_it_stays() -> None:
    stored = SessionCipher(SECRET, "s", KID, "r").seal(ITEM, NOW)
    with pytest.raises(ValueError, match="end"):
        resealed(stored, suite=2)
    kept = parse_row(resealed(stored))
    assert isinstance(kept, Envelope)
    assert (kept.version, kept.timestamp) == (1, NOW)


def test_back_to_suite_1_the_time_stays_and_the_end_is_lost() -> None:
    row = parse_row(resealed(FULL, suite=1))
    assert isinstance(row, Envelope)
    assert (row.version, row.timestamp, row.expires, row.says_expires) == (1, NOW, None, False)
    assert SessionCipher(NEW, "s", "new~44556677").opener(1).open(row) == ITEM


def test_a_time_that_five_bytes_do_not_hold_is_left_where_it_is() -> None:
    stored = SessionCipher(SECRET, "s", KID, "r").seal(ITEM, 2**40)
    with pytest.raises(NotAnItem):
        resealed(stored, suite=2, expires=None)


def test_an_end_further_off_than_five_bytes_hold_is_none() -> None:
    row = open_row(SessionCipher(SECRET, "s", KID, suite=2).seal(ITEM, NOW, NOW + 10**15), SECRET, "s")
    assert row.expires == NEVER


@pytest.mark.parametrize("plaintext", [b"", b"[]", b"\xff", b"{", b'"a"'])
def test_what_is_no_item_is_not_sealed_again(plaintext: bytes) -> None:
    with pytest.raises(NotAnItem):
        resealed(seal_row(plaintext, KID, SECRET, "s", NOW, realm="r"))


# -- Base64 ---------------------------------------------------------------------------------------


@given(
    st.text('ABab09+/-_= \n\\u"', max_size=24)
    | st.binary(max_size=24).map(lambda data: base64.b64encode(data).decode())
)
def test_base64_has_one_spelling(text: str) -> None:
    try:
        expected = base64.b64decode(text, validate=True)
    except ValueError:
        expected = None
    if expected is not None and (len(expected) % 3 or base64.b64encode(expected).decode() != text):
        expected = None
    assert decode_base64(b'"%b"' % text.encode()) == expected
    with mock.patch.object(aes_gcm_v2, "accelerator", return_value=None):
        assert decode_base64(b'"%b"' % text.encode()) == expected


@given(items())
def test_without_pydantic_core_it_is_the_same(item: dict[str, Any]) -> None:
    cipher = SessionCipher(SECRET, "s", KID, suite=2)
    with (
        mock.patch.object(aes_gcm_v2, "accelerator", return_value=None),
        mock.patch.object(exact_json, "accelerator", return_value=None),
    ):
        row = cipher.seal(item, NOW, pad=True)
        found = parse(row)
        assert isinstance(found, Envelope)
        slowly = cipher.opener(2).open(found)
    assert same(cipher.opener(2).open(found), slowly)
    assert open_row(row, SECRET, "s").plaintext == open_row(cipher.seal(item, NOW, pad=True), SECRET, "s").plaintext


@pytest.mark.parametrize("make", [partial(AesGcmCipher, NEW, "s", KID), lambda: AesGcmCipher(NEW, "s", KID).opener()])
def test_it_is_neither_shown_nor_pickled(make: Any) -> None:
    one = make()
    assert "n" * 4 not in repr(one)
    with pytest.raises(TypeError):
        pickle.dumps(one)


def test_what_keys_are_made_from_is_not_pickled_either() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(AesGcmCipher(NEW, "s", KID)._keys)
