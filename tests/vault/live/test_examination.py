"""What `encrypted-sessions doctor` says of a real server, and that it comes true."""

from __future__ import annotations

import secrets

import pytest

from encrypted_sessions.doctor import report as doctor_report
from encrypted_sessions.doctor.diagnosis import Diagnosis
from encrypted_sessions.doctor.examination import examine
from keyproviders import KeyNotFoundError
from keyproviders.vault import VaultKvKeyProvider


@pytest.fixture
def diagnosed(place, monkeypatch: pytest.MonkeyPatch):
    """Examines the place of this test with a token."""
    for name in ("VAULT_ADDR", "BAO_ADDR", "VAULT_TOKEN", "BAO_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    async def ask(token: str, mount: str = "secret") -> Diagnosis:
        monkeypatch.setenv("VAULT_TOKEN", token)
        found = await examine(f"vault-kv:{place.path}?mount={mount}&address={place.server.url}")
        assert found.ok, doctor_report.format_text(found)
        assert token == "root" or token not in doctor_report.format_text(found) + doctor_report.format_json(found)
        return found

    return ask


def reads_metadata(place) -> str:
    place.allow(
        f'path "secret/data/{place.path}" {{ capabilities = ["read"] }}\n'
        f'path "secret/metadata/{place.path}" {{ capabilities = ["read"] }}\n'
        'path "secret/config" { capabilities = ["read"] }'
    )
    made = place.root.auth.token.create(policies=[place.policy], ttl="1h")
    return str(made["auth"]["client_token"])


async def test_a_version_is_lost_exactly_when_it_was_said(place, diagnosed):
    token = reads_metadata(place)
    provider = VaultKvKeyProvider(place.path, address=place.server.url, token=token)
    for _ in range(9):
        place.write()
    assert "1 more write can follow before the oldest one, version 1," in (await diagnosed(token)).remarks[0]
    place.write()
    assert provider.get("1").name == "1"
    (warned,) = (await diagnosed(token)).warnings
    assert "drops version 1 permanently, since 10 are kept" in warned
    # What it advises helps.
    place.root.secrets.kv.v2.update_metadata(place.path, max_versions=11)
    assert (await diagnosed(token)).warnings == ()
    place.write()
    assert provider.get("1").name == "1"
    place.write()
    with pytest.raises(KeyNotFoundError):
        provider.get("1")
    assert "drops version 2 permanently, since 11 are kept" in (await diagnosed(token)).warnings[0]
    place.destroy(2)
    assert "1 more write can follow before the oldest one, version 3," in (await diagnosed(token)).remarks[0]
    provider.close()


async def test_the_larger_number_of_the_mount_counts(place, diagnosed):
    mount = f"kv-{secrets.token_hex(4)}"
    place.root.sys.enable_secrets_engine("kv", path=mount, options={"version": "2"})
    place.root.adapter.post(f"/v1/{mount}/config", json={"max_versions": 3})
    provider = VaultKvKeyProvider(place.path, mount=mount, address=place.server.url, token="root")

    def write() -> None:
        place.root.secrets.kv.v2.create_or_update_secret(
            place.path, {"key": place.keys[0].reveal_base64()}, mount_point=mount
        )

    place.write()
    for _ in range(3):
        write()
    place.root.secrets.kv.v2.update_metadata(place.path, max_versions=2, mount_point=mount)
    found = await diagnosed("root", mount)
    assert found.remarks[0].startswith("3 versions of")
    assert "drops version 1 permanently" in " ".join(found.warnings)
    assert provider.get("1").name == "1"
    write()
    with pytest.raises(KeyNotFoundError):
        provider.get("1")
    provider.close()
    place.root.sys.disable_secrets_engine(mount)


async def test_the_policy_of_the_docs_says_nothing_of_versions_and_all_is_well(place, diagnosed):
    place.write()
    found = await diagnosed(place.token(ttl="1h"))
    assert f"not known: this needs read on secret/metadata/{place.path}." in found.remarks[0]
    assert "ends in 60 minutes. It is renewed while keys are asked for, up to its maximum life;" in found.remarks[1]
    assert found.warnings == ()


async def test_how_long_a_token_lives(place, diagnosed):
    place.write()
    for given, words in (
        ({"period": "24h"}, "without a maximum"),
        ({"ttl": "1h", "explicit_max_ttl": "3h"}, "up to its maximum life of 3 hours"),
        ({"ttl": "1h", "renewable": False}, "cannot be renewed, and nothing replaces it"),
        ({"ttl": "1h", "type": "batch"}, "cannot be renewed, and nothing replaces it"),
        ({"ttl": "1h", "num_uses": 30}, "more uses"),
        ({"ttl": "1h", "no_default_policy": True}, "not known: this needs read on auth/token/lookup-self"),
    ):
        found = await diagnosed(place.token(**given))
        assert words in " ".join((*found.remarks, *found.warnings)), given
    assert "is a root token" in " ".join((await diagnosed("root")).warnings)


async def test_a_version_with_an_end_of_its_own(place, diagnosed):
    place.write()
    place.root.secrets.kv.v2.update_metadata(place.path, delete_version_after="72h")
    place.write()
    (warned,) = (await diagnosed(reads_metadata(place))).warnings
    assert "the server will delete version 2 of" in warned
