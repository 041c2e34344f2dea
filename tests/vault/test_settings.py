"""What a provider makes of its URL, its arguments and the environment, before it asks anybody."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from keyproviders import Key, KeyAccessDeniedError, KeyRing, KeyUnavailableError, ProviderConfigError
from keyproviders.vault import VaultKvKeyProvider

URL = "vault-kv:secret/agents/session-key"
ADDRESS = "https://vault.example:8200"


def made(url: str = URL, **given: Any) -> VaultKvKeyProvider:
    return VaultKvKeyProvider.from_url(url, **given)


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", ADDRESS)


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("vault-kv:secret/agents/session-key", "/v1/secret/data/agents/session-key"),
        ("vault-kv:kv/x", "/v1/kv/data/x"),
        ("vault-kv:agents/session-key?mount=team-a/kv", "/v1/team-a/kv/data/agents/session-key"),
        ("VAULT-KV:secret/a%20b/%C3%A9%3F", "/v1/secret/data/a%20b/%C3%A9%3F"),
        ("vault-kv:secret/a+b", "/v1/secret/data/a%2Bb"),
    ],
)
def test_a_url_names_mount_and_path(url: str, api: str):
    assert made(url)._api == api


def test_a_url_takes_every_option_that_is_no_secret():
    provider = made(
        "vault-kv:agents/session-key?mount=team-a/kv&field=key&auth=approle&auth_mount=team-a/approle&role_id=r"
        "&secret_id_file=/run/secret-id&address=https://other.example&namespace=team-a"
        "&ca_cert=/ca.pem&client_cert=/c.pem&client_key=/k.pem"
    )
    endpoint = provider._connection._endpoint
    assert endpoint.address == "https://other.example"
    assert endpoint.namespace == "team-a"
    assert endpoint.ca == "/ca.pem"
    assert (endpoint.client_cert, endpoint.client_key) == ("/c.pem", "/k.pem")
    assert provider._connection.login_label == "the approle login at auth/team-a/approle"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{URL}?token=hvs.S3cret", "token does not belong"),
        (f"{URL}?auth=approle&secret_id=S3cret", "secret_id does not belong"),
        (f"{URL}?allow_insecure=true", "only code can allow this"),
        (f"{URL}?client=x", "pass it in code"),
        (f"{URL}?S3cret=1", "no option of that name"),
        (f"{URL}?colour=red", "no option 'colour'"),
        (f"{URL}?field=a&field=b", "field twice"),
        (f"{URL}?field=", "field has no value"),
        (f"{URL}?field", "field has no value"),
        (f"{URL}?field=%ff", "do not decode to UTF-8"),
        (f"{URL}#part", "'#'"),
        ("vault-kv:", "a mount and a path"),
        ("vault-kv:secret", "a mount and a path"),
        ("vault-kv:secret/", "the path"),
        ("vault-kv:/secret/x", "the mount"),
        ("vault-kv://vault.example/secret/x", "or a host"),
        ("vault-kv:secret//x", "the path"),
        ("vault-kv:secret/../x", "the path"),
        ("vault-kv:secret/x%00", "the path"),
        ("vault-kv:secret/data/agents/session-key", "write vault-kv:secret/agents/session-key"),
        ("vault-kv:data/x?mount=team-a/kv", r"write vault-kv:x\?mount=team-a/kv"),
        (f"{URL}?auth=ldap", "token, token-file, agent, approle, kubernetes, jwt, aws"),
        (f"{URL}?role=x", "role has no effect with auth=token"),
        (f"{URL}?auth=approle", "needs a role id"),
        (f"{URL}?auth=kubernetes", "needs role="),
        (f"{URL}?auth=jwt&role=x", "needs jwt_file="),
        (f"{URL}?auth=token-file", "needs token_file="),
        (f"{URL}?auth=approle&role_id=a&role_id_file=/b", "give one"),
        (f"{URL}?client_key=/k.pem", "without its certificate"),
        (f"{URL}?auth=jwt&jwt_file=/x&auth_mount=../sys", "auth_mount"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_showing_a_secret(url: str, words: str):
    with pytest.raises(ProviderConfigError, match=words) as caught:
        made(url)
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"path": 1},
        {"mount": None},
        {"field": 1},
        {"address": 1},
        {"token": b"x"},
        {"allow_insecure": 1},
        {"client": 1},
        {"colour": "red"},
    ],
)
def test_a_wrong_type_is_a_type_error(given: dict[str, Any]):
    with pytest.raises(TypeError):
        VaultKvKeyProvider(**{"path": "x", **given})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (None, "no address"),
        ("", "no address"),
        ("vault.example:8200", "not an http or https URL"),
        ("ftp://vault.example", "not an http or https URL"),
        ("unix:///run/vault.sock", "not an http or https URL"),
        ("https://", "not an http or https URL"),
        ("https://me:S3cret@vault.example", "a user or a password"),
        ("https://vault.example?token=S3cret", "after"),
        ("https://[::1", "not a URL"),
        ("https://vault.example:port", "not a URL"),
        ("http://vault.example:8200", "plain http to another machine"),
        ("http://10.0.0.1:8200", "plain http to another machine"),
        ("http://127.0.0.1.vault.example", "plain http to another machine"),
        ("http://localhost.example", "plain http to another machine"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, address: str | None, words: str):
    if address is None:
        monkeypatch.delenv("VAULT_ADDR")
    else:
        monkeypatch.setenv("VAULT_ADDR", address)
    with pytest.raises(ProviderConfigError, match=words) as caught:
        made()
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:8200", "https://vault.example/prefix/"]
)
def test_loopback_and_https_are_fine(address: str):
    assert made(f"{URL}?address={address}")._connection.label == address.rstrip("/")


def test_plain_http_elsewhere_works_where_code_allows_it_and_warns():
    with pytest.warns(UserWarning, match="plain http to another machine") as caught:
        made(f"{URL}?address=http://vault.example:8200", allow_insecure=True)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="plain http to another machine") as direct:
        VaultKvKeyProvider("x", address="http://vault.example:8200", allow_insecure=True)
    assert {caught[0].filename, direct[0].filename} == {__file__}


@pytest.mark.parametrize("value", ["1", "true", "T", "perhaps"])
@pytest.mark.parametrize("variable", ["VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"])
def test_unverified_tls_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ProviderConfigError, match="SKIP_VERIFY"):
        made()


@pytest.mark.parametrize("value", ["0", "false", ""])
def test_verified_tls_is_no_matter(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("VAULT_SKIP_VERIFY", value)
    assert made()._connection._endpoint.ca is None


def test_the_environment_is_read_when_the_provider_is_made_and_bao_goes_first(monkeypatch: pytest.MonkeyPatch):
    import hvac  # it reads some of these when it is imported  # noqa: F401

    names = ("NAMESPACE", "CACERT", "CLIENT_CERT", "CLIENT_KEY", "TOKEN")
    for name in names:
        monkeypatch.setenv(f"VAULT_{name}", f"/vault-{name}")
    monkeypatch.setenv("VAULT_CAPATH", "/vault-CAPATH")
    first = made()
    for name in names:
        monkeypatch.setenv(f"BAO_{name}", f"/bao-{name}")
    monkeypatch.setenv("BAO_ADDR", "https://bao.example")
    second = made()
    for provider, brand, address in ((first, "vault", ADDRESS), (second, "bao", "https://bao.example")):
        endpoint = provider._connection._endpoint
        assert endpoint.address == address
        assert endpoint.namespace == f"/{brand}-NAMESPACE"
        assert endpoint.ca == f"/{brand}-CACERT"
        assert endpoint.client_cert == f"/{brand}-CLIENT_CERT"
        assert endpoint.client_key == f"/{brand}-CLIENT_KEY"
        adapter = provider._connection._ready()
        assert adapter.base_uri == address
        assert adapter.namespace == f"/{brand}-NAMESPACE"
        assert adapter._kwargs["verify"] == f"/{brand}-CACERT"
        assert adapter._kwargs["cert"] == (f"/{brand}-CLIENT_CERT", f"/{brand}-CLIENT_KEY")
        assert adapter.token is None
        provider.close()


def test_a_folder_of_cas_is_used_when_no_file_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VAULT_CAPATH", "/etc/vault/ca")
    assert made()._connection._endpoint.ca == "/etc/vault/ca"


def test_arguments_go_before_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VAULT_NAMESPACE", "a")
    monkeypatch.setenv("VAULT_CACERT", "/a")
    provider = VaultKvKeyProvider("x", address="https://b", namespace="b", ca_cert=Path("/b"))
    endpoint = provider._connection._endpoint
    assert (endpoint.address, endpoint.namespace, endpoint.ca) == ("https://b", "b", "/b")


# Where tokens and credentials come from.


def test_a_token_comes_from_the_argument_the_variable_or_the_file_of_a_login(vault, monkeypatch, tmp_path: Path):
    key = Key.generate()
    vault.has_key(key)

    def used(**given: str) -> str | None:
        del vault.asked[:]
        provider = VaultKvKeyProvider("agents/session-key", address=vault.url, **given)
        provider.active()
        provider.close()
        return vault.tokens()[-1]

    (tmp_path / ".vault-token").write_text("from-file\n")
    assert used() == "from-file"
    monkeypatch.setenv("VAULT_TOKEN", "from-vault")
    assert used() == "from-vault"
    monkeypatch.setenv("BAO_TOKEN", "from-bao")
    assert used() == "from-bao"
    assert used(token="given") == "given"


def test_no_token_anywhere_is_a_wrong_setting(vault):
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url)
    with pytest.raises(ProviderConfigError, match="set VAULT_TOKEN"):
        provider.active()
    assert vault.asked == []
    provider.close()


def test_a_login_on_the_command_line_counts_after_a_denial(vault, reply, tmp_path: Path):
    key = Key.generate()
    path = "/v1/secret/data/agents/session-key"
    good = reply(200, vault.secret(key))
    denied = reply(403, {"errors": ["permission denied"]})
    vault.on("GET", path, lambda asked: good if asked.headers.get("X-Vault-Token") == "new" else denied)
    (tmp_path / ".vault-token").write_text("old")
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url)
    with pytest.raises(KeyAccessDeniedError):
        provider.active()
    (tmp_path / ".vault-token").write_text("new")
    assert provider.active().secret == key.secret
    provider.close()


def test_a_token_file_is_read_again_when_it_changes(vault, token_file: Path):
    vault.has_key(Key.generate())
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=token_file)
    for token in ("one", "two", "two", "one"):
        token_file.write_text(token)
        provider.active()
    assert vault.tokens() == ["one", "two", "two", "one"]
    provider.close()


def test_a_token_file_that_changed_during_the_request_is_tried_once_more(vault, reply, token_file: Path):
    key = Key.generate()

    def answer(asked):
        if asked.headers["X-Vault-Token"] == "new":
            return reply(200, vault.secret(key))
        token_file.write_text("new")
        return reply(403, {"errors": ["permission denied"]})

    vault.on("GET", "/v1/secret/data/agents/session-key", answer)
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=token_file)
    assert provider.active().secret == key.secret
    assert vault.tokens() == ["TOKEN", "new"]
    provider.close()


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_token_file_that_is_not_written_yet_is_waited_for(vault, token_file: Path, content: str | None):
    """An agent that starts beside the service, or writes its file anew, needs a moment."""
    key = Key.generate()
    vault.has_key(key)
    token_file.unlink()
    if content is not None:
        token_file.write_text(content)
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=token_file)
    with pytest.raises(KeyUnavailableError, match=rf"{token_file} (does not exist|is empty) \(yet\)"):
        provider.active()

    def written(_: float) -> None:
        token_file.write_text("TOKEN")

    ring = KeyRing(provider, sleep=written)
    assert ring.active_sync().secret == key.secret
    ring.close()


def test_a_token_file_that_cannot_be_read_is_a_wrong_setting(vault, token_file: Path, tmp_path: Path):
    token_file.write_bytes(b"\xff\xfe")
    for path in (token_file, tmp_path):
        provider = VaultKvKeyProvider("x", address=vault.url, auth="token-file", token_file=path)
        with pytest.raises(ProviderConfigError, match=f"{path} cannot be read"):
            provider.active()
        provider.close()


def test_a_token_file_may_be_a_link_that_changes(vault, tmp_path: Path):
    """As Kubernetes keeps its files: a link to a folder that is replaced as a whole."""
    vault.has_key(Key.generate())
    link = tmp_path / "link"
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=link)
    for number, token in enumerate(("one", "two")):
        (tmp_path / token).write_text(token)
        (tmp_path / f"new{number}").symlink_to(tmp_path / token)
        (tmp_path / f"new{number}").replace(link)
        provider.active()
    assert vault.tokens() == ["one", "two"]
    provider.close()


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "é", "\x00"])
def test_a_token_that_no_header_can_hold_is_refused_without_showing_it(vault, token_file: Path, token: str):
    token_file.write_text(token)
    provider = VaultKvKeyProvider("x", address=vault.url, auth="token-file", token_file=token_file)
    with pytest.raises(ProviderConfigError, match="is not a token") as caught:
        provider.active()
    assert token not in str(caught.value)
    provider.close()


def test_an_agent_is_sent_no_token(vault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VAULT_TOKEN", "not-this-one")
    vault.has_key(Key.generate())
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="agent")
    provider.active()
    assert vault.tokens() == [None]
    provider.close()


def test_the_ids_of_an_approle_come_from_arguments_files_or_variables(vault, monkeypatch, tmp_path: Path):
    vault.has_key(Key.generate())
    vault.on("POST", "/v1/auth/approle/login", vault.granted("t"))
    (tmp_path / "r").write_text("role-of-file\n")
    (tmp_path / "s").write_text("secret-of-file\n")

    def posted(**given: Any) -> tuple[str | None, str | None]:
        del vault.asked[:]
        provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", **given)
        provider.active()
        provider.close()
        return vault.asked[0].body.get("role_id"), vault.asked[0].body.get("secret_id")

    assert posted(role_id="r") == ("r", None)
    assert posted(role_id="r", secret_id="s") == ("r", "s")
    assert posted(role_id_file=tmp_path / "r", secret_id_file=tmp_path / "s") == ("role-of-file", "secret-of-file")
    monkeypatch.setenv("VAULT_ROLE_ID", "role-of-vault")
    monkeypatch.setenv("VAULT_SECRET_ID", "secret-of-vault")
    assert posted() == ("role-of-vault", "secret-of-vault")
    monkeypatch.setenv("BAO_SECRET_ID", "secret-of-bao")
    assert posted() == ("role-of-vault", "secret-of-bao")


def test_a_credential_in_a_file_is_read_anew_at_each_login(vault, reply, tmp_path: Path):
    vault.has_key(Key.generate())
    path = tmp_path / "jwt"
    path.write_text("old")
    good = vault.granted("t", 0)
    bad = reply(400, {"errors": ["token is expired"]})
    vault.on("POST", "/v1/auth/jwt/login", lambda asked: good if asked.body["jwt"] == "new" else bad)
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="jwt", role="r", jwt_file=path)
    with pytest.raises(KeyAccessDeniedError, match="token is expired"):
        provider.active()
    path.write_text("new")
    provider.active()
    provider.close()


def test_a_login_that_asks_for_a_second_factor_is_a_wrong_setting(vault, reply):
    body = {"auth": {"client_token": "", "lease_duration": 0, "mfa_requirement": {"mfa_request_id": "x"}}}
    vault.on("POST", "/v1/auth/approle/login", reply(200, body))
    provider = VaultKvKeyProvider("x", address=vault.url, auth="approle", role_id="r")
    with pytest.raises(ProviderConfigError, match="second factor"):
        provider.active()
    provider.close()


@pytest.mark.parametrize(
    ("region", "url", "signed_for"),
    [
        (None, "https://sts.amazonaws.com/", "us-east-1"),
        ("eu-central-1", "https://sts.eu-central-1.amazonaws.com/", "eu-central-1"),
        ("cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
    ],
)
def test_the_aws_login_is_signed_for_its_region_with_the_server_id(monkeypatch, region, url: str, signed_for: str):
    import base64
    import json

    from keyproviders.vault.aws_identity import signed_identity

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session")
    made_of = signed_identity(region, "vault.example")
    headers = json.loads(base64.b64decode(made_of["iam_request_headers"]))
    assert base64.b64decode(made_of["iam_request_url"]).decode() == url
    assert headers["Host"] == [url.removeprefix("https://").rstrip("/")]
    assert headers["X-Vault-AWS-IAM-Server-ID"] == ["vault.example"]
    assert headers["X-Amz-Security-Token"] == ["a-session"]
    authorization = headers["Authorization"][0]
    assert f"/{signed_for}/sts/aws4_request" in authorization
    assert "x-vault-aws-iam-server-id" in authorization
    assert "host" in authorization
    assert "wJalrXUtnFEMI" not in json.dumps(headers)


def test_the_aws_login_without_credentials_is_denied(vault):
    provider = VaultKvKeyProvider("x", address=vault.url, auth="aws", role="r", aws_region="eu-central-1")
    with pytest.raises(KeyAccessDeniedError, match="found no AWS credentials"):
        provider.active()
    provider.close()


# Ready clients, forks, threads, closing.


def test_a_ready_client_is_used_as_it_is_and_left_open(vault):
    import hvac

    key = Key.generate()
    vault.has_key(key)
    client = hvac.Client(url=vault.url, token="its-own", namespace="team-a", timeout=7)
    provider = VaultKvKeyProvider("agents/session-key", client=client)
    assert provider.active().secret == key.secret
    assert vault.tokens() == ["its-own"]
    assert vault.asked[0].headers["X-Vault-Namespace"] == "team-a"
    provider.close()
    assert client.adapter.session.adapters
    client.adapter.close()


def test_a_function_that_makes_a_client_logs_in_again_after_a_denial(vault, reply):
    import hvac

    key = Key.generate()
    denied = reply(403, {"errors": ["permission denied"]})
    vault.on("GET", "/v1/secret/data/agents/session-key", denied, reply(200, vault.secret(key)))
    clients = []

    def make():
        clients.append(hvac.Client(url=vault.url, token=f"t{len(clients)}"))
        return clients[-1]

    provider = VaultKvKeyProvider("agents/session-key", client=make)
    assert provider.active().secret == key.secret
    assert vault.tokens() == ["t0", "t1"]
    provider.close()
    clients[0].adapter.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, KeyAccessDeniedError), (403, KeyAccessDeniedError), (404, ProviderConfigError), (503, KeyUnavailableError)],
)
def test_a_function_that_fails_to_log_in_fails_as_a_login_does(vault, reply, status: int, error: type[Exception]):
    import hvac

    vault.on("POST", "/v1/auth/ldap/login/me", reply(status, {"errors": ["not you"]}))

    def make():
        client = hvac.Client(url=vault.url, token="")
        try:
            client.auth.ldap.login("me", "S3cret")
        finally:
            client.adapter.close()
        return client

    with pytest.raises(error, match="not you") as caught:
        VaultKvKeyProvider("x", client=make).active()
    assert caught.value.__context__ is None


def test_a_function_that_finds_nobody_to_log_in_at_is_unavailable():
    import hvac

    def make():
        hvac.Client(url="http://127.0.0.1:1", token="").auth.ldap.login("me", "S3cret")

    with pytest.raises(KeyUnavailableError, match="connection refused"):
        VaultKvKeyProvider("x", client=make).active()


def test_a_ready_client_that_is_denied_is_denied(vault, reply):
    import hvac

    vault.on("GET", "/v1/secret/data/agents/session-key", reply(403, {"errors": ["permission denied"]}))
    client = hvac.Client(url=vault.url, token="t")
    provider = VaultKvKeyProvider("agents/session-key", client=client)
    with pytest.raises(KeyAccessDeniedError, match="the given client may not read it"):
        provider.active()
    assert len(vault.asked) == 1
    client.adapter.close()


def test_a_ready_client_that_gets_no_answer_is_unavailable():
    import hvac

    client = hvac.Client(url="http://127.0.0.1:1", token="t")
    with pytest.raises(KeyUnavailableError, match="connection refused"):
        VaultKvKeyProvider("x", client=client).active()
    client.adapter.close()


@pytest.mark.parametrize("given", [{"address": ADDRESS}, {"auth": "agent"}, {"token": "S3cret"}, {"namespace": "a"}])
def test_a_ready_client_and_other_settings_do_not_go_together(given: dict[str, str]):
    with pytest.raises(ProviderConfigError, match=f"{next(iter(given))} would have no effect") as caught:
        VaultKvKeyProvider("x", client=lambda: None, **given)
    assert "S3cret" not in str(caught.value)


def test_a_function_that_makes_no_client_is_a_type_error():
    with pytest.raises(TypeError, match=r"did not return an hvac\.Client"):
        VaultKvKeyProvider("x", client=lambda: 1).active()


def test_after_a_fork_connections_are_new_and_the_token_goes_on(vault):
    key = Key.generate()
    vault.has_key(key)
    vault.on("POST", "/v1/auth/approle/login", vault.granted("t"))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", role_id="r")
    provider.active()
    before = provider._connection._ready()
    provider.after_fork()
    assert provider.active().secret == key.secret
    assert provider._connection._ready() is not before
    assert vault.tokens() == [None, "t", "t"]
    provider.close()
    before.close()


def test_a_forked_child_reads_on_connections_of_its_own(vault):
    vault.has_key(Key.generate())
    vault.on("POST", "/v1/auth/approle/login", vault.granted("t"))
    code = (
        "import os, sys\n"
        "from keyproviders.vault import VaultKvKeyProvider\n"
        "provider = VaultKvKeyProvider('agents/session-key', address=sys.argv[1], auth='approle', role_id='r')\n"
        "kid = provider.active().kid\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    provider.after_fork()\n"
        "    os._exit(0 if provider.active().kid == kid else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert provider.active().kid == kid\n"
        "provider.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, vault.url], check=True, capture_output=True)
    read = "GET secret/data/agents/session-key"
    assert vault.paths() == ["POST auth/approle/login", read, read, read]


def test_after_a_fork_a_function_makes_a_new_client_and_a_ready_one_raises_clearly(vault):
    import hvac

    vault.has_key(Key.generate())
    clients = []

    def make():
        clients.append(hvac.Client(url=vault.url, token="t"))
        return clients[-1]

    provider = VaultKvKeyProvider("agents/session-key", client=make)
    provider.active()
    provider.after_fork()
    provider.active()
    assert len(clients) == 2
    ready = VaultKvKeyProvider("agents/session-key", client=clients[0])
    with pytest.raises(ProviderConfigError, match="was forked"):
        ready.after_fork()
    with pytest.raises(ProviderConfigError, match="pass a function"):
        ready.active()
    for client in clients:
        client.adapter.close()


def test_a_closed_provider_says_so(vault):
    from keyproviders import KeyProviderError

    vault.has_key(Key.generate())
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="agent")
    provider.active()
    provider.close()
    provider.close()
    with pytest.raises(KeyProviderError, match="closed"):
        provider.active()


def test_neither_the_package_nor_a_provider_loads_the_sdk():
    code = (
        "import sys, keyproviders, keyproviders.vault, keyproviders.aws\n"
        "keyproviders.vault.VaultKvKeyProvider('x', address='https://vault.example')\n"
        "keyproviders.aws.AwsSecretsManagerKeyProvider('x')\n"
        "print(sorted({'hvac', 'requests', 'boto3', 'botocore', 'urllib3'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_without_hvac_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "hvac"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hvac", None)
    provider = VaultKvKeyProvider("x", address=ADDRESS, token="t")
    with pytest.raises(ProviderConfigError, match=r"pip install 'encrypted-sessions\[vault\]'"):
        provider.active()


def test_nothing_shows_a_secret(vault):
    provider = VaultKvKeyProvider("x", address=vault.url, auth="approle", role_id="r", secret_id="S3cret" * 4)
    connection = provider._connection
    shown = [repr(one) for one in (provider, connection, connection._tokens, connection._endpoint)]
    shown += [provider.place, connection.label, connection.login_label]
    assert "S3cret" not in "".join(shown)
    with pytest.raises(TypeError) as caught:
        VaultKvKeyProvider("x", token="S3cret", colour="red")
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert text.count("S3cret") <= 1  # the line of source above
