"""What a provider says of its secret and its token to `encrypted-sessions doctor`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.doctor import report as doctor_report
from encrypted_sessions.doctor.examination import examine
from keyproviders import Key, KeyUnavailableError
from keyproviders.vault import VaultKvKeyProvider
from keyproviders.vault.examination import duration_text

METADATA, CONFIG, LOOKUP = "/v1/secret/metadata/agents/session-key", "/v1/secret/config", "/v1/auth/token/lookup-self"


def answers(file: str) -> dict[str, dict[str, Any]]:
    """The last answer of each recorded scenario."""
    found = json.loads((Path(__file__).parent / "data" / file).read_text(encoding="utf-8"))["scenarios"]
    return {one["name"]: one["exchanges"][-1]["response"] for one in found if one["exchanges"]}


RECORDED, LIVE = answers("recorded.json"), answers("live.json")


@pytest.fixture
def provider(vault, token_file: Path):
    made = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=token_file)
    yield made
    made.close()


def told_by(provider: VaultKvKeyProvider) -> tuple[list[str], list[str]]:
    """Its sentences, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        remarks = provider.examine()
    assert all(one.isprintable() and len(one) < 600 for one in remarks)
    return remarks, [str(one.message) for one in caught]


def metadata(newest: int, *, oldest: int = 1, own: int = 0, gone: Mapping[int, dict[str, Any]] | None = None) -> Any:
    made = {"created_time": "2026-11-23T01:52:43.018108633Z", "deletion_time": "", "destroyed": False}
    versions = {str(number): {**made, **(gone or {}).get(number, {})} for number in range(oldest, newest + 1)}
    return {"data": {"current_version": newest, "max_versions": own, "oldest_version": 0, "versions": versions}}


def config(of_mount: int) -> Any:
    return {"data": {"max_versions": of_mount, "cas_required": False, "delete_version_after": "0s"}}


@pytest.mark.parametrize(
    ("own", "of_mount", "kept"), [(0, 0, 10), (20, 0, 20), (0, 30, 30), (20, 30, 30), (40, 30, 40), (2, 5, 5)]
)
def test_the_larger_number_of_the_secret_and_its_mount_counts_and_0_means_10(
    vault, reply, provider, own: int, of_mount: int, kept: int
):
    vault.on("GET", METADATA, reply(200, metadata(2, own=own)))
    vault.on("GET", CONFIG, reply(200, config(of_mount)))
    remarks, warned = told_by(provider)
    assert remarks[0].startswith(f"{kept} versions of secret/agents/session-key are kept; {kept - 2} more writes can")
    assert warned == []


@pytest.mark.parametrize(("newest", "words"), [(8, "2 more writes"), (9, "1 more write can follow")])
def test_it_is_said_how_near_the_end_is(vault, reply, provider, newest: int, words: str):
    vault.on("GET", METADATA, reply(200, metadata(newest)))
    vault.on("GET", CONFIG, reply(200, config(0)))
    remarks, warned = told_by(provider)
    assert words in remarks[0]
    assert "before the oldest one, version 1, is dropped" in remarks[0]
    assert warned == []


@pytest.mark.parametrize(
    ("newest", "oldest", "own", "falling", "advice"),
    [
        (10, 1, 0, "version 1 ", 100),
        (11, 2, 0, "version 2 ", 100),
        (12, 5, 4, "version 5, 6, 7, 8, 9 ", 100),
        (12, 1, 4, "version 1, 2, 3, 4, 5 and 4 more ", 100),
        (1, 1, 1, "version 1 ", 100),
        (300, 1, 300, "version 1 ", 600),
    ],
)
def test_a_version_that_the_next_write_drops_is_a_warning(
    vault, reply, provider, newest: int, oldest: int, own: int, falling: str, advice: int
):
    vault.on("GET", METADATA, reply(200, metadata(newest, oldest=oldest, own=own)))
    vault.on("GET", CONFIG, reply(200, config(0)))
    _, (warned,) = told_by(provider)
    assert f"the next write to secret/agents/session-key drops {falling}permanently" in warned
    assert f"vault kv metadata put -mount=secret -max-versions={advice} agents/session-key" in warned


def test_a_destroyed_version_is_no_loss_and_a_deleted_one_is(vault, reply, provider):
    vault.on("GET", CONFIG, reply(200, config(0)))
    vault.on("GET", METADATA, reply(200, metadata(10, gone={1: {"destroyed": True}})))
    remarks, warned = told_by(provider)
    assert "1 more write can follow before the oldest one, version 2" in remarks[0]
    assert warned == []
    vault.on("GET", METADATA, reply(200, metadata(10, gone={1: {"deletion_time": "2026-11-23T01:52:43Z"}})))
    assert "drops version 1 permanently" in told_by(provider)[1][0]


def test_a_version_that_the_server_will_delete_by_itself_is_a_warning(vault, reply, provider):
    later = datetime.now(timezone.utc) + timedelta(days=3)
    end = {"deletion_time": f"{later:%Y-%m-%dT%H:%M:%SZ}"}
    vault.on("GET", METADATA, reply(200, metadata(3, gone={2: end})))
    vault.on("GET", CONFIG, reply(200, config(0)))
    _, (warned,) = told_by(provider)
    assert f"the server will delete version 2 of secret/agents/session-key at {later:%Y-%m-%d %H:%M} UTC" in warned


def test_what_the_policy_does_not_allow_is_not_known_and_costs_no_login(vault, reply):
    denied = RECORDED["policy-denies-metadata"]
    vault.has_key(Key.generate())
    vault.on("POST", "/v1/auth/approle/login", vault.granted("t"))
    vault.on("GET", METADATA, reply(denied["status"], denied["body"]))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", role_id="r")
    remarks, warned = told_by(provider)
    needed = "secret/metadata/agents/session-key"
    assert (
        remarks[0]
        == f"How many versions of secret/agents/session-key are kept is not known: this needs read on {needed}."
    )
    assert remarks[1].startswith("The token comes from the approle login at auth/approle")
    assert warned == []
    assert vault.paths() == ["POST auth/approle/login", "GET secret/metadata/agents/session-key"]
    provider.close()


def test_a_mount_that_may_not_be_asked_leaves_the_secrets_own_number(vault, reply, provider):
    vault.on("GET", METADATA, reply(200, metadata(2, own=20)))
    vault.on("GET", CONFIG, reply(403, {"errors": ["permission denied"]}))
    remarks, _ = told_by(provider)
    assert remarks[0].startswith(
        "20 versions of secret/agents/session-key are kept, unless the mount is configured to keep more, which is"
        " not known: this needs read on"
        " secret/config; 18 more writes"
    )


def test_what_a_server_of_the_live_tests_said_is_read(vault, reply, provider):
    for path, name in ((METADATA, "kv2-metadata"), (CONFIG, "kv2-mount-config")):
        vault.on("GET", path, reply(200, LIVE[name]["body"]))
    remarks, warned = told_by(provider)
    assert remarks[0] == (
        "10 versions of secret/agents/session-key are kept; 6 more writes can follow before the oldest one, version"
        " 1, is dropped."
    )
    assert warned == []


def test_recorded_metadata_of_no_secret_is_told_by_its_status(vault, reply, provider):
    answer = RECORDED["kv2-missing-metadata"]
    vault.on("GET", METADATA, reply(answer["status"], answer["body"]))
    assert "not known: the server answered 404." in told_by(provider)[0][0]


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_answer_that_helps_nothing_is_told_by_its_status(vault, reply, provider, status: int):
    vault.on("GET", METADATA, reply(status, {"errors": []}))
    assert f"not known: the server answered {status}." in told_by(provider)[0][0]


def test_a_server_that_is_gone_is_an_error_as_ever(vault, reply, provider):
    vault.on("GET", METADATA, reply(breaks=True))
    with pytest.raises(KeyUnavailableError):
        provider.examine()


@pytest.mark.parametrize("name", ["kv2-metadata", "kv2-metadata-mixed", "kv2-metadata-max-versions"])
def test_recorded_metadata_is_read(vault, reply, provider, name: str):
    vault.on("GET", METADATA, reply(200, RECORDED[name]["body"]))
    vault.on("GET", CONFIG, reply(200, config(0)))
    own = RECORDED[name]["body"]["data"]["max_versions"]
    remarks, _ = told_by(provider)
    assert remarks[0].startswith(f"{own or 10} versions of secret/agents/session-key are kept")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"versions": None},
        {"versions": [1]},
        {"versions": {"1": None, "x": {}, "-1": {}, "9" * 40: {}, "2": 7}},
        {"versions": {"1": {"deletion_time": 7}}, "current_version": "3", "max_versions": True},
        {"versions": {"1": {}}, "current_version": 10**400, "max_versions": -1},
        {"versions": {"1": {}}, "current_version": 1e300, "max_versions": [10]},
        {"versions": {str(number): {} for number in range(1, 5_000)}, "current_version": 5_000},
    ],
)
def test_metadata_that_no_server_sends_does_no_harm(vault, reply, provider, data: Any):
    vault.on("GET", METADATA, reply(200, {"data": data}))
    vault.on("GET", CONFIG, reply(200, {"data": data}))
    remarks, warned = told_by(provider)
    assert remarks
    assert all(len(one) < 500 for one in warned)


# The token.


def test_whoever_keeps_the_token_is_named(vault, reply, token_file: Path):
    vault.on("GET", METADATA, reply(403, {}))
    vault.on("POST", "/v1/auth/approle/login", vault.granted("t"))
    for given, words in (
        ({"auth": "token-file", "token_file": token_file}, f"The token is read from {token_file} before each request"),
        ({"auth": "agent"}, "The agent adds its own token"),
        ({"auth": "approle", "role_id": "r"}, "The token comes from the approle login at auth/approle"),
    ):
        provider = VaultKvKeyProvider("agents/session-key", address=vault.url, **given)
        assert told_by(provider)[0][1].startswith(words)
        provider.close()
    assert LOOKUP not in [one.path for one in vault.asked]


def test_a_ready_client_keeps_its_own(vault, reply):
    import hvac

    client = hvac.Client(url=vault.url, token="t")
    assert told_by(VaultKvKeyProvider("agents/session-key", client=client))[0][1].startswith("The given client")
    client.adapter.close()


def token(**data: Any) -> Any:
    return {"data": {"ttl": 3_600, "creation_ttl": 3_600, "renewable": True, "policies": ["default"], **data}}


@pytest.mark.parametrize(
    ("data", "remarks", "warned"),
    [
        ({}, ["ends in 60 minutes", "up to its maximum life;", "idle for 60 minutes", "auth=token-file"], []),
        ({"ttl": 10}, ["ends in 10 seconds", "idle for 60 minutes"], []),
        ({"period": 86_400, "ttl": 80_000}, ["ends in 22 hours", "without a maximum", "idle for 24 hours"], []),
        ({"explicit_max_ttl": 259_200}, ["up to its maximum life of 3 days"], []),
        ({"renewable": False}, [], ["ends in 60 minutes and cannot be renewed", "auth=agent"]),
        ({"ttl": 0}, ["The token given in code does not expire"], []),
        ({"ttl": 0, "policies": ["root"]}, ["does not expire"], ["is a root token"]),
        ({"num_uses": 5}, ["ends in 60 minutes"], ["ends after 5 more uses"]),
        ({"ttl": 1e300, "creation_ttl": None, "policies": 7, "num_uses": "x"}, ["does not expire"], []),
    ],
)
def test_how_long_a_token_lives_that_nothing_replaces(
    vault, reply, data: dict[str, Any], remarks: list[str], warned: list[str]
):
    vault.on("GET", METADATA, reply(403, {}))
    vault.on("GET", LOOKUP, reply(200, token(**data)))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, token="S3cret")
    found = told_by(provider)
    for words in remarks:
        assert words in found[0][1]
    assert len(found[0]) == 1 + bool(remarks)
    for words in warned:
        assert words in " ".join(found[1])
    assert bool(found[1]) == bool(warned)
    assert "S3cret" not in str(found)
    provider.close()


def test_a_token_that_may_not_look_at_itself_is_not_known(vault, reply):
    vault.on("GET", METADATA, reply(403, {}))
    vault.on("GET", LOOKUP, reply(403, {"errors": ["permission denied"]}))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, token="t")
    assert told_by(provider)[0][1] == (
        "How long the token given in code lives is not known: this needs read on auth/token/lookup-self, which"
        " the policy"
        " default allows."
    )
    provider.close()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7_199, "120 minutes"), (172_800, "2 days")],
)
def test_a_length_of_time_is_said_in_the_largest_unit_that_says_enough(seconds: int, words: str):
    assert duration_text(seconds) == words


async def test_the_doctor_says_it_and_is_content(vault, reply, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VAULT_TOKEN", "S3cret")
    key = reply(200, vault.secret(Key.generate(), 9))
    for path in ("", "?version=9"):
        vault.on("GET", f"/v1/secret/data/agents/session-key{path}", key)
    vault.on("GET", METADATA, reply(200, metadata(10)))
    vault.on("GET", CONFIG, reply(200, config(0)))
    vault.on("GET", LOOKUP, reply(200, token()))
    found = await examine(f"vault-kv:secret/agents/session-key?address={vault.url}")
    assert found.ok
    shown = doctor_report.format_text(found)
    assert "note    10 versions of secret/agents/session-key are kept." in shown
    assert "note    The token of VAULT_TOKEN or BAO_TOKEN ends in 60 minutes." in shown
    assert "warning the next write to secret/agents/session-key drops version 1 permanently" in shown
    told = json.loads(doctor_report.format_json(found))
    assert (len(told["remarks"]), len(told["warnings"])) == (2, 1)
    assert "S3cret" not in shown + str(told)
