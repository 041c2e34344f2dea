"""The published vectors of HKDF and Fernet, through the code that seals and opens items."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import pytest

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.core.derivation import hkdf_sha256
from encrypted_sessions.core.envelope import Envelope, pack, parse
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher, FernetOpener, derive_session_key
from encrypted_sessions_tests.stores import PlainSession

# -- HKDF: RFC 5869, appendix A, the test cases with SHA-256 --------------------------------------


class HkdfVector(NamedTuple):
    ikm: bytes
    salt: bytes
    info: bytes
    okm: str


HKDF_VECTORS = {
    "A.1 basic": HkdfVector(
        ikm=b"\x0b" * 22,
        salt=bytes(range(0x0D)),
        info=bytes(range(0xF0, 0xFA)),
        okm="3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    "A.2 longer inputs and outputs": HkdfVector(
        ikm=bytes(range(0x50)),
        salt=bytes(range(0x60, 0xB0)),
        info=bytes(range(0xB0, 0x100)),
        okm="b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    "A.3 zero-length salt and info": HkdfVector(
        ikm=b"\x0b" * 22,
        salt=b"",
        info=b"",
        okm="8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
}


@pytest.mark.parametrize("vector", HKDF_VECTORS.values(), ids=HKDF_VECTORS)
def test_hkdf_gives_the_output_of_rfc_5869(vector: HkdfVector) -> None:
    length = len(vector.okm) // 2
    assert hkdf_sha256(vector.ikm, salt=vector.salt, info=vector.info, length=length).hex() == vector.okm


def test_a_fingerprint_and_a_session_key_are_the_same_hkdf() -> None:
    secret = bytes(range(32))
    fingerprint = hkdf_sha256(secret, salt=b"", info=b"encrypted-sessions.kid.v1", length=32).hex()[:8]
    assert Key(None, secret).fingerprint == fingerprint
    session_key = hkdf_sha256(secret, salt="user-ü".encode(), info=b"agents.session-store.hkdf.v1", length=32)
    assert derive_session_key(secret, "user-ü") == session_key


# -- Fernet: generate.json, verify.json and invalid.json of github.com/fernet/spec ---------------

SECRET = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
SOURCE = b"hello"
TOKEN = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
GENERATED_AT = "1985-10-26T01:20:00-07:00"
VERIFIED_AT = "1985-10-26T01:20:01-07:00"
IV = bytes(range(16))
TTL = 60


class Invalid(NamedTuple):
    token: str
    outcome: str
    now: str = VERIFIED_AT


INVALID = {
    "incorrect mac": Invalid(
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
        "unauthentic",
    ),
    "too short": Invalid("gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==", "malformed"),
    "invalid base64": Invalid(
        "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        "malformed",
    ),
    "payload size not multiple of block size": Invalid(
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
        "malformed",
    ),
    "payload padding error": Invalid(
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
        "malformed",
    ),
    "far-future TS (unacceptable clock skew)": Invalid(
        "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
        "not_yet_valid",
    ),
    "expired TTL": Invalid(
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        "expired",
        now="1985-10-26T01:21:31-07:00",
    ),
    "incorrect IV (causes padding error)": Invalid(
        "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
        "malformed",
    ),
    "trailing characters after b64 padding": Invalid(TOKEN + "trailingdata", "malformed"),
    "invalid characters in b64": Invalid(
        "*gAAAAAAdwJ6wAAECAwQFBgcI!CQoLDA0ODy021?cpGVWKZ_eEwC@GM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==",
        "malformed",
    ),
    "invalid non-urlsafe characters in b64": Invalid(
        "gAAAAAAdwJ6wAAEC/AwQFBgcICQoLDA0ODy+021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==",
        "malformed",
    ),
}


def seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def cipher() -> FernetCipher:
    return FernetCipher(base64.urlsafe_b64decode(SECRET))


def envelope(payload: str) -> dict[str, Any]:
    return {"__enc__": 1, "v": 1, "kid": "vector", "payload": payload}


class OneCipher:
    """A keychain that has the vectors' key for every kid."""

    wait_s = 8.0

    async def find(self, kids: Iterable[str], wait_s: float) -> Mapping[str, OneCipher]:
        return dict.fromkeys(kids, self)

    def opener(self, version: int) -> FernetOpener:
        assert version == 1
        opener = cipher().opener()
        opener.written_until = None
        return opener


def outcomes_of(payload: str, now: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, int]:
    """What a session with the vectors' key says of a stored token at this time."""
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: seconds(now))
    store = PlainSession("vectors", [])
    session = EncryptedSession.wrap(store, KeyRing.ephemeral(), ttl=TTL)
    session._sealed.keychain = OneCipher()

    async def read() -> Mapping[str, int]:
        await store.add_items([envelope(payload)])  # type: ignore[list-item]  # what is stored is no item
        return (await session.read()).outcomes

    return asyncio.run(read())


def test_sealing_generates_the_token_of_the_specification() -> None:
    token = cipher()._seal(SOURCE, seconds(GENERATED_AT), IV)
    assert pack("vector", token) == envelope(TOKEN)


def test_opening_verifies_the_token_of_the_specification() -> None:
    found = parse(envelope(TOKEN))
    assert isinstance(found, Envelope)
    opener = cipher().opener()
    opener.verify(found)
    assert opener.decrypt(found) == SOURCE
    assert found.timestamp == seconds(GENERATED_AT)
    assert found.timestamp <= seconds(VERIFIED_AT) <= found.timestamp + TTL


def test_an_opener_that_served_other_tokens_opens_the_vector() -> None:
    found = parse(envelope(TOKEN))
    assert isinstance(found, Envelope)
    opener = cipher().opener()
    for length in range(40):
        other = parse(pack("vector", cipher()._seal(b"x" * length, 0, bytes([length] * 16))))
        assert isinstance(other, Envelope)
        assert opener.decrypt(other) == b"x" * length
        assert opener.decrypt(found) == SOURCE


def test_a_session_finds_the_vector_authentic_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # "hello" is no JSON object; that is asked last, when all else is well.
    assert outcomes_of(TOKEN, VERIFIED_AT, monkeypatch) == {"ok": 0, "malformed": 1}
    object_instead = cipher()._seal(b'{"hello": 1}', seconds(GENERATED_AT), IV)
    assert outcomes_of(pack("vector", object_instead)["payload"], VERIFIED_AT, monkeypatch) == {"ok": 1}


@pytest.mark.parametrize("vector", INVALID.values(), ids=INVALID)
def test_an_invalid_token_of_the_specification_is_an_outcome(vector: Invalid, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes_of(vector.token, vector.now, monkeypatch) == {"ok": 0, vector.outcome: 1}
