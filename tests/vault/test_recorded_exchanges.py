"""What a real server answered, played again: through hvac as it was recorded, and through the provider."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import hvac
import pytest

from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.keyset import WrappedKey
from keyproviders.vault import VaultKvKeyProvider, VaultTransitKeyWrapper

DATA = Path(__file__).parent / "data"
NOTHING = {"errors": []}


class Scenario(NamedTuple):
    """One recorded scenario: what was sent and answered, and what hvac made of it."""

    name: str
    hvac: dict[str, Any]
    exchanges: list[dict[str, Any]]


def scenarios(file: str) -> dict[str, Scenario]:
    path = DATA / file
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))["scenarios"]
    return {one["name"]: Scenario(one["name"], one["hvac"], one["exchanges"]) for one in found}


RECORDED = scenarios("recorded.json")
LIVE = scenarios("live.json")


def play(vault, reply, scenario: Scenario) -> None:
    """Let the server answer what it answered then. One that nobody listened to is gone."""
    routes: dict[tuple[str, str], list[Any]] = {}
    for exchange in scenario.exchanges:
        request, response = exchange["request"], exchange["response"]
        routes.setdefault((request["method"], request["path"]), []).append(
            reply(response["status"], response["body"], response["headers"])
        )
    for (method, path), replies in routes.items():
        vault.on(method, path, *replies)


def url_of(vault, scenario: Scenario) -> str:
    if scenario.exchanges:
        return vault.url
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def by_name(names: Iterable[str]) -> Any:
    """Each scenario of these names in either recording."""
    found = [
        pytest.param(recording[name], id=f"{name}-{which}")
        for name in names
        for which, recording in (("recorded", RECORDED), ("live", LIVE))
        if name in recording
    ]
    return pytest.mark.parametrize("scenario", found)


# hvac itself: were it to change, the data would not show what the provider meets any more.


@by_name(sorted(RECORDED.keys() | LIVE.keys()))
def test_hvac_still_makes_of_it_what_was_recorded(vault, reply, scenario: Scenario):
    play(vault, reply, scenario)
    url = url_of(vault, scenario)
    raised: BaseException | None = None
    returned: Any = None
    for exchange in scenario.exchanges or [{"request": {"method": "GET", "path": "/v1/secret/data/x"}}]:
        request = exchange["request"]
        headers = request.get("headers", {})
        client = hvac.Client(
            url=url,
            token=headers.get("X-Vault-Token", ""),
            namespace=headers.get("X-Vault-Namespace"),
        )
        body = {"json": request["body"]} if request.get("body") is not None else {}
        healthy = request["path"] == "/v1/sys/health"
        try:
            returned = client.adapter.request(request["method"], request["path"], raise_exception=not healthy, **body)
        except (hvac.exceptions.VaultError, OSError) as error:
            raised = error
        finally:
            client.adapter.close()
    wanted = scenario.hvac.get("raised")
    if wanted is None:
        assert raised is None
        if isinstance(returned, dict) and isinstance(scenario.hvac["returned"], dict):
            assert returned == scenario.hvac["returned"]
    else:
        assert f"{type(raised).__module__}.{type(raised).__name__}" == wanted


# The provider and the wrapper: each scenario of key/value stores, tokens, logins and Transit ends as the failure
# table says.


class End(NamedTuple):
    """How a call must end: with a key of that name, or with an error whose message has these words."""

    key: str | None = None
    error: type[KeyProviderError] | None = None
    words: tuple[str, ...] = ()


def key(name: str) -> End:
    return End(key=name)


def fails(error: type[KeyProviderError], *words: str) -> End:
    return End(error=error, words=words)


READS: dict[str, End] = {
    "kv2-read-current": key("4"),
    "kv2-read-version": key("2"),
    "kv2-version-deleted": fails(KeyDisabledError, "version 2", "deleted at 2026-11-23 01:52:43 UTC", "undelete"),
    "kv2-version-destroyed": fails(KeyDestroyedError, "version 1", "2026-11-23 01:52:43 UTC", "destroyed for good"),
    "kv2-version-never-existed": fails(KeyNotFoundError, "no version 99"),
    "kv2-newest-deleted": fails(KeyDisabledError, "version 4", "deleted at 2026-11-23 01:52:43 UTC"),
    "kv2-undeleted": key("2"),
    "kv2-missing-path": fails(KeyNotFoundError, "secret/agents/none does not exist"),
    "kv2-missing-mount": fails(ProviderConfigError, "no handler for route", "'nowhere'", "namespace"),
    "kv2-version-fell-out": fails(KeyNotFoundError, "no version 1", "max_versions"),
    "kv1-read-as-v2": fails(ProviderConfigError, "version 1", "old"),
    "token-bad": fails(KeyAccessDeniedError, "permission denied", "capabilities"),
    "token-none": fails(KeyAccessDeniedError, "permission denied"),
    "policy-allows": key("4"),
    "policy-version-by-query": key("4"),
    "policy-denies-path": fails(KeyAccessDeniedError, "secret/data/agents/short"),
    "token-expired": fails(KeyAccessDeniedError, "permission denied"),
    "token-revoked": fails(KeyAccessDeniedError, "permission denied"),
    "token-uses-spent": fails(KeyAccessDeniedError, "permission denied"),
    "no-such-namespace": fails(ProviderConfigError, "namespace not found", "nope"),
    "namespace-empty": fails(ProviderConfigError, "no handler for route", "team-a"),
    "rate-limited-no-header": fails(KeyUnavailableError, "429", "rate limit quota exceeded"),
    "rate-limited": fails(KeyUnavailableError, "429", "rate limit quota exceeded"),
    "sealed-read": fails(KeyUnavailableError, "503", "sealed"),
    "refused": fails(KeyUnavailableError, "connection refused"),
}

LOGINS: dict[str, End] = {
    "approle-login": key("4"),
    "approle-bad-secret": fails(KeyAccessDeniedError, "invalid role or secret ID"),
    "approle-bad-role": fails(KeyAccessDeniedError, "invalid role or secret ID"),
    "approle-empty-secret": fails(KeyAccessDeniedError, "missing secret_id"),
    "approle-not-mounted": fails(KeyAccessDeniedError, "auth/approle-two", "permission denied"),
    "jwt-login": key("4"),
    "jwt-expired": fails(KeyAccessDeniedError, "token is expired"),
    "jwt-bad-audience": fails(KeyAccessDeniedError, "audience"),
    "jwt-no-role": fails(KeyAccessDeniedError, 'role "none" could not be found'),
    "kubernetes-login": key("4"),
    "kubernetes-not-authorized": fails(KeyAccessDeniedError, "service account name not authorized"),
    "kubernetes-no-role": fails(KeyAccessDeniedError, 'invalid role name "none"'),
    "aws-iam-login": key("4"),
    "aws-iam-wrong-server-id": fails(KeyAccessDeniedError, 'expected "vault.example"'),
    "aws-iam-no-role": fails(KeyAccessDeniedError, "entry for role none not found"),
    "sealed-login": fails(KeyUnavailableError, "503", "sealed"),
}

#: None: it gives what was recorded.
TRANSIT: dict[str, End | None] = {
    "transit-datakey": None,
    "transit-decrypt": None,
    "transit-wrong-context": fails(InvalidKeyError, "message authentication failed", "another keyset or name"),
    "transit-no-context": fails(ProviderConfigError, "missing 'context'"),
    "transit-damaged": fails(InvalidKeyError, "message authentication failed", "it was altered"),
    "transit-other-key": fails(InvalidKeyError, "message authentication failed", "transit/plain is a different key"),
    "transit-missing-key": fails(KeyNotFoundError, "encryption key not found", "transit/none does not exist"),
    "transit-missing-key-datakey": fails(KeyNotFoundError, "encryption key not found", "transit/none does not exist"),
    "transit-future-version": fails(InvalidKeyError, "version is too new", "version 99 of transit/agents"),
    "transit-rewrap": None,
    "transit-below-min-version": fails(KeyDisabledError, "disallowed by policy (too old)", "min_decryption_version=1"),
    "transit-rewrapped-opens": None,
}

#: Scenarios that have a test of their own below.
ALONE = {
    "kv2-data-in-path",
    "mount-info-v1",
    "mount-info-v2",
    "token-lookup-self",
    "token-renew-self",
    "token-renew-capped",
    "token-renew-not-renewable",
    "token-renew-expired",
    "token-batch-renew",
    "not-allowed-method",
    "transit-no-prefix",
}

#: What is asked for `doctor` alone: test_examination.py plays these.
EXAMINED = {
    "kv2-metadata",
    "kv2-metadata-mixed",
    "kv2-missing-metadata",
    "kv2-metadata-max-versions",
    "policy-denies-metadata",
}

#: What nobody here asks: the server's health, and what a key says of itself.
NOT_ASKED = {
    "health",
    "sealed-health",
    "transit-key-info",
}


def test_every_scenario_is_a_test_or_asks_what_nobody_here_asks():
    tested = (READS.keys(), LOGINS.keys(), TRANSIT.keys(), ALONE, EXAMINED)
    assert LIVE.keys() <= {"kv2-mount-config"}.union(*tested)
    assert set().union(*tested, NOT_ASKED) == RECORDED.keys()
    assert sum(map(len, tested)) + len(NOT_ASKED) == len(RECORDED) == 72


def place_of(path: str) -> tuple[str, str, str | None]:
    """Mount, path and version of a request to the API."""
    parts = urlsplit(path)
    mount, _, rest = parts.path.removeprefix("/v1/").partition("/data/")
    return mount, rest, parse_qs(parts.query).get("version", [None])[0]


def ends_as(end: End, call: Callable[[], Key]) -> KeyProviderError | None:
    if end.error is None:
        found = call()
        assert found.name == end.key
        assert found.created_at is not None
        assert found.created_at.isoformat().startswith("2026-11-23T01:52:43")
        return None
    return fails_as(end, call)


def fails_as(end: End, call: Callable[[], object]) -> KeyProviderError:
    assert end.error is not None
    with pytest.raises(end.error) as caught:
        call()
    assert type(caught.value) is end.error
    for words in end.words:
        assert words in str(caught.value)
    return caught.value


@by_name(READS)
def test_a_recorded_read_ends_as_the_failure_table_says(vault, reply, token_file: Path, scenario: Scenario):
    play(vault, reply, scenario)
    vault.on(
        "GET",
        "/v1/sys/internal/ui/mounts/old/agents/session-key",
        reply(200, RECORDED["mount-info-v1"].exchanges[0]["response"]["body"]),
    )
    exchanges = scenario.exchanges or RECORDED["kv2-read-current"].exchanges
    sent = exchanges[-1]["request"]
    mount, path, version = place_of(sent["path"])
    auth = {"auth": "token-file", "token_file": token_file} if "X-Vault-Token" in sent["headers"] else {"auth": "agent"}
    provider = VaultKvKeyProvider(
        path,
        mount=mount,
        address=url_of(vault, scenario),
        namespace=sent["headers"].get("X-Vault-Namespace"),
        **auth,
    )
    for _ in exchanges[:-1]:
        provider.active()  # what used up the quota then

    error = ends_as(READS[scenario.name], lambda: provider.active() if version is None else provider.get(version))

    if scenario.exchanges:
        first = vault.asked[len(exchanges) - 1]
        assert (first.method, first.path, first.body) == (sent["method"], sent["path"], None)
        assert sent["headers"].items() <= {**first.headers}.items()
    if isinstance(error, KeyUnavailableError):
        assert error.retry_after_s == (9 if scenario.name == "rate-limited" else None)
    provider.close()


@by_name(LOGINS)
def test_a_recorded_login_ends_as_the_failure_table_says(
    vault, reply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: Scenario
):
    play(vault, reply, scenario)
    play(vault, reply, RECORDED["kv2-read-current"])
    sent = scenario.exchanges[0]["request"]
    mount = sent["path"].removeprefix("/v1/auth/").removesuffix("/login")
    (tmp_path / "jwt").write_text("JWT\n")
    (tmp_path / "secret-id").write_text("SECRET_ID\n")
    auth = scenario.name.partition("-")[0].replace("sealed", "approle")
    given: dict[str, Any] = {"auth": auth}
    if mount != auth:
        given["auth_mount"] = mount
    if auth == "approle":
        given["role_id"] = sent["body"]["role_id"]
        if sent["body"]["secret_id"]:
            given["secret_id_file"] = tmp_path / "secret-id"
    else:
        given["role"] = sent["body"]["role"]
    if auth in {"jwt", "kubernetes"}:
        given["jwt_file"] = tmp_path / "jwt"
    if auth == "aws":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        given["aws_server_id"] = "vault.example"
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, **given)

    error = ends_as(LOGINS[scenario.name], provider.active)

    login = vault.asked[0]
    assert (login.method, login.path) == (sent["method"], sent["path"])
    assert "X-Vault-Token" not in login.headers
    if auth == "aws":
        assert login.body.keys() == sent["body"].keys()
        for name in ("iam_http_request_method", "iam_request_url", "iam_request_body", "role"):
            assert login.body[name] == sent["body"][name]
    else:
        assert login.body == {name: value for name, value in sent["body"].items() if value}
    if error is None:
        assert vault.tokens() == [None, "s.ISSUEDTOKEN0000000000000"]
    else:
        assert len(vault.asked) == 1
        for secret in ("JWT", "SECRET_ID"):
            assert secret not in str(error)
    provider.close()


def test_a_path_with_data_in_it_is_refused_before_it_is_asked(vault):
    for make in (
        lambda: VaultKvKeyProvider.from_url(f"vault-kv:secret/data/agents/session-key?address={vault.url}"),
        lambda: VaultKvKeyProvider("data/agents/session-key", address=vault.url),
    ):
        with pytest.raises(ProviderConfigError, match="write vault-kv:secret/agents/session-key"):
            make()
    assert vault.asked == []


def test_a_missing_secret_is_told_from_a_wrong_mount_by_one_look(vault, reply, token_file: Path):
    info = RECORDED["mount-info-v2"].exchanges[0]["response"]["body"]
    vault.on("GET", "/v1/sys/internal/ui/mounts/secret/agents/none", reply(200, info))
    provider = VaultKvKeyProvider("agents/none", address=vault.url, auth="token-file", token_file=token_file)
    for _ in range(2):
        with pytest.raises(KeyNotFoundError):
            provider.active()
    assert vault.paths() == [
        "GET secret/data/agents/none",
        "GET sys/internal/ui/mounts/secret/agents/none",
        "GET secret/data/agents/none",
    ]
    provider.close()


def test_a_mount_that_is_another_than_was_given_is_named(vault, reply, token_file: Path):
    info = json.loads(json.dumps(RECORDED["mount-info-v2"].exchanges[0]["response"]["body"]))
    info["data"]["path"] = "team-a/kv/"
    vault.on("GET", "/v1/sys/internal/ui/mounts/team-a/kv/agents/x", reply(200, info))
    provider = VaultKvKeyProvider(
        "kv/agents/x", mount="team-a", address=vault.url, auth="token-file", token_file=token_file
    )
    with pytest.raises(ProviderConfigError, match=r"write vault-kv:agents/x\?mount=team-a/kv"):
        provider.active()
    provider.close()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_look_that_does_not_succeed_changes_nothing_and_costs_no_login(vault, reply, status: int):
    vault.on("POST", "/v1/auth/approle/login", vault.granted("t"))
    vault.on("GET", "/v1/sys/internal/ui/mounts/secret/agents/none", reply(status, {"errors": ["no"]}))
    provider = VaultKvKeyProvider("agents/none", address=vault.url, auth="approle", role_id="r")
    with pytest.raises(KeyNotFoundError):
        provider.active()
    assert len(vault.asked) == 3
    provider.close()


def test_a_given_token_is_looked_up_once_with_itself(vault, reply):
    play(vault, reply, RECORDED["token-lookup-self"])
    play(vault, reply, RECORDED["kv2-read-current"])
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, token="TOKEN")
    for _ in range(3):
        assert provider.active().name == "4"
    assert vault.paths() == ["GET auth/token/lookup-self", *["GET secret/data/agents/session-key"] * 3]
    assert set(vault.tokens()) == {"TOKEN"}
    token = provider._connection._tokens.current()
    assert token.renewable
    assert token.ends_at < float("inf")
    provider.close()


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("token-renew-self", ["POST auth/token/renew-self"]),
        ("token-renew-capped", ["POST auth/token/renew-self", "POST auth/approle/login"]),
        ("token-renew-not-renewable", ["POST auth/token/renew-self", "POST auth/approle/login"]),
        ("token-renew-expired", ["POST auth/token/renew-self", "POST auth/approle/login"]),
        ("token-batch-renew", ["POST auth/token/renew-self", "POST auth/approle/login"]),
    ],
)
def test_a_recorded_renewal_prolongs_the_token_or_leads_to_a_new_login(vault, reply, name: str, then: list[str]):
    play(vault, reply, RECORDED["kv2-read-current"])
    play(vault, reply, RECORDED["approle-login"])
    play(vault, reply, RECORDED[name])
    provider = VaultKvKeyProvider(
        "agents/session-key", address=vault.url, auth="approle", role_id="r", secret_id="SECRET_ID"
    )
    clock = [0.0]
    provider._connection._tokens._clock = lambda: clock[0]
    provider.active()
    del vault.asked[:]
    clock[0] = 2_401.0  # two thirds of an hour, and a little
    provider.active()
    assert vault.paths() == [*then, "GET secret/data/agents/session-key"]
    assert vault.asked[0].headers["X-Vault-Token"] == "s.ISSUEDTOKEN0000000000000"
    provider.close()


def test_a_400_that_is_about_no_credential_is_a_wrong_setting(vault, reply, token_file: Path):
    answer = RECORDED["not-allowed-method"].exchanges[0]["response"]
    vault.on("GET", "/v1/secret/data/agents/session-key", reply(answer["status"], answer["body"]))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=token_file)
    with pytest.raises(ProviderConfigError, match="mime: no media type"):
        provider.active()
    provider.close()


# Transit.

CONTEXT = {"keyset": "agents", "key": "k1", "created_at": "2026-11-23T01:43:35Z"}


def wrapper_of(vault, reply, token_file: Path, scenario: Scenario) -> tuple[VaultTransitKeyWrapper, str, str]:
    """The wrapper whose request was recorded, the operation, and the key-encryption key."""
    sent = scenario.exchanges[0]["request"]
    mount, _, rest = sent["path"].removeprefix("/v1/").partition("/")
    operation, _, key = rest.rpartition("/")
    play(vault, reply, scenario)
    if operation == "datakey/plaintext":
        # It asks without a context first, to see that the key is a derived one.
        (recorded,) = vault.routes[sent["method"], sent["path"]]
        first = RECORDED["transit-no-context"].exchanges[0]["response"]
        vault.on(sent["method"], sent["path"], reply(first["status"], first["body"]), recorded)
    wrapper = VaultTransitKeyWrapper(key, mount=mount, address=vault.url, auth="token-file", token_file=token_file)
    return wrapper, operation, f"{mount}/{key}"


@by_name(TRANSIT)
def test_a_recorded_answer_of_transit_ends_as_the_failure_table_says(
    vault, reply, token_file: Path, scenario: Scenario
):
    (exchange,) = scenario.exchanges
    sent, answered = exchange["request"], exchange["response"]["body"].get("data", {})
    wrapper, operation, kek = wrapper_of(vault, reply, token_file, scenario)
    wrapped = WrappedKey(kek, sent["body"].get("ciphertext", ""))
    call: Callable[[], object] = {
        "datakey/plaintext": lambda: wrapper.generate(CONTEXT),
        "decrypt": lambda: wrapper.unwrap(wrapped, CONTEXT),
        "rewrap": lambda: wrapper.rewrap(wrapped, CONTEXT),
    }[operation]
    end = TRANSIT[scenario.name]
    if end is not None:
        fails_as(end, call)
    else:
        secret = base64.b64decode(answered.get("plaintext", ""))
        again = WrappedKey(kek, answered.get("ciphertext", ""))
        wanted = {"datakey/plaintext": (secret, again), "decrypt": secret, "rewrap": again}[operation]
        assert call() == wanted
    last = vault.asked[-1]
    assert (last.method, last.path) == (sent["method"], sent["path"])
    assert last.headers["X-Vault-Token"] == sent["headers"]["X-Vault-Token"]
    assert {**last.body, "context": ""} == {**sent["body"], "context": ""}
    assert json.loads(base64.b64decode(last.body["context"])) == CONTEXT
    wrapper.close()


@by_name(["transit-no-prefix"])
def test_a_ciphertext_without_its_prefix_is_not_even_asked_for(vault, reply, token_file: Path, scenario: Scenario):
    wrapper, _, kek = wrapper_of(vault, reply, token_file, scenario)
    text = scenario.exchanges[0]["request"]["body"]["ciphertext"]
    with pytest.raises(InvalidKeyError, match="not in Transit's form, vault:v1:"):
        wrapper.unwrap(WrappedKey(kek, text), CONTEXT)
    assert vault.asked == []
    with pytest.raises(InvalidKeyError, match="no prefix"):
        wrapper.unwrap(WrappedKey(kek, f"vault:v1:{text}"), CONTEXT)
    wrapper.close()
