"""A cipher suite is one module and one line of the table: a toy one, added here, is read beside Fernet."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.core import cipher as cipher_module
from encrypted_sessions.core import envelope as envelope_module
from encrypted_sessions.core.cipher import SessionCipher
from encrypted_sessions.core.envelope import Envelope, pack, parse
from encrypted_sessions.core.exact_json import encode_item
from encrypted_sessions.core.suites import SUITES, WRITTEN
from encrypted_sessions.core.suites.suite import Opener, Suite, Unauthentic
from encrypted_sessions_tests.stores import PlainSession
from keyproviders.local import StaticKeyProvider

LABEL = b"toy"
HEADER = 5 + 5 + 12  # created, expires, nonce


class ToyEnvelope(Envelope):
    __slots__ = ("expires",)

    version = 3

    def __init__(self, kid: str, body: bytes) -> None:
        super().__init__(kid, body, int.from_bytes(body[:5], "big"))
        self.expires: int | None = int.from_bytes(body[5:10], "big") or None


class ToyOpener(Opener):
    def __init__(self, aead: AESGCM) -> None:
        self._aead = aead

    def verify(self, envelope: Envelope) -> None:
        self.decrypt(envelope)

    def decrypt(self, envelope: Envelope) -> bytes:
        head, rest = envelope.body[:HEADER], envelope.body[HEADER:]
        try:
            plaintext = self._aead.decrypt(head[10:], rest, head + envelope.kid.encode())
        except InvalidTag:
            raise Unauthentic from None
        envelope.verified_by = self
        return plaintext


class ToyCipher:
    def __init__(self, secret: bytes, session_id: str, kid: str, realm: str) -> None:
        key = hmac.digest(secret, b"\0".join((LABEL, realm.encode(), session_id.encode())), "sha256")
        self._aead, self._kid = AESGCM(key), kid

    def seal(self, item: object, timestamp: int, expires: int | None = None, **_: object) -> bytes:
        return self._seal(encode_item(item), timestamp, expires)

    def reseal(self, envelope: Envelope, plaintext: bytes, expires: object = "kept") -> bytes:
        return self._seal(plaintext, envelope.timestamp, envelope.expires)

    def _seal(self, plaintext: bytes, timestamp: int, expires: int | None) -> bytes:
        head = timestamp.to_bytes(5, "big") + (expires or 0).to_bytes(5, "big") + os.urandom(12)
        return head + self._aead.encrypt(head[10:], plaintext, head + self._kid.encode())

    def opener(self) -> Opener:
        return ToyOpener(self._aead)


def toy_envelope(kid: str, quoted: bytes) -> Envelope | None:
    try:
        body = base64.b64decode(quoted[1:-1], validate=True)
    except binascii.Error:
        return None
    return ToyEnvelope(kid, body) if len(body) >= HEADER + 16 else None


TOY = Suite(3, LABEL, "toy", toy_envelope, lambda body: base64.b64encode(body).decode("ascii"), ToyCipher)


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the table."""
    for module in (envelope_module, cipher_module):
        monkeypatch.setattr(module, "SUITES", {**SUITES, TOY.version: TOY})


def sealed_by(suite: Suite, key: Key, item: dict[str, Any], timestamp: int, expires: int | None) -> dict[str, Any]:
    return pack(key.kid, suite.derive(key.secret, "s", key.kid, "").seal(item, timestamp, expires), suite)


@pytest.mark.usefixtures("_toy")
async def test_a_session_reads_rows_of_every_suite_of_the_table() -> None:
    key, now = Key.generate("k"), 1_000
    rows = [sealed_by(suite, key, {"n": n}, now, None) for n, suite in enumerate((WRITTEN, TOY, WRITTEN, TOY))]
    altered = {**rows[3], "toy": rows[3]["toy"][:-4] + ("AAAA" if rows[3]["toy"][-4:] != "AAAA" else "BBBB")}
    store = PlainSession("s", [])
    await store.add_items([*rows, altered])
    history = await EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(key)), ttl=None).read()
    assert history.items == [{"n": n} for n in range(4)]
    assert history.outcomes == {"ok": 4, "unauthentic": 1}


@pytest.mark.usefixtures("_toy")
def test_an_envelope_says_what_its_suite_carries() -> None:
    key = Key.generate("k")
    toy = parse(sealed_by(TOY, key, {"a": 1}, 7, 67))
    fernet = parse(sealed_by(WRITTEN, key, {"a": 1}, 7, 67))
    assert isinstance(toy, Envelope)
    assert isinstance(fernet, Envelope)
    assert (toy.version, toy.kid, toy.timestamp, toy.expires) == (3, key.kid, 7, 67)
    assert (fernet.version, fernet.kid, fernet.timestamp, fernet.expires) == (1, key.kid, 7, None)
    cipher = SessionCipher(key.secret, "s", key.kid)
    for found in (toy, fernet):
        assert cipher.opener(found.version).open(found) == {"a": 1}
    assert parse({"__enc__": 1, "v": 4, "kid": key.kid, "p": ""}) == "unsupported"


def test_without_its_line_the_version_is_unsupported() -> None:
    assert parse(sealed_by(TOY, Key.generate("k"), {"a": 1}, 7, None)) == "unsupported"


def test_every_suite_has_a_label_and_a_member_of_its_own() -> None:
    suites = [*SUITES.values(), TOY]
    assert len({suite.label for suite in suites}) == len({suite.member for suite in suites}) == len(suites)
    assert all(suite.version == version for version, suite in SUITES.items())
