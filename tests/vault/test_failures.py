"""What a server, or the way to it, can answer, over real HTTP on loopback."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import traceback
from email.utils import formatdate
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from encrypted_sessions_tests.full_backlog import full_backlog
from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
)
from keyproviders.vault import VaultKvKeyProvider

PATH = "/v1/secret/data/agents/session-key"


@pytest.fixture
def provider(vault, token_file: Path):
    made = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=token_file)
    yield made
    made.close()


def failure(provider: VaultKvKeyProvider) -> KeyProviderError:
    with pytest.raises(KeyProviderError) as caught:
        provider.active()
    return caught.value


@pytest.mark.parametrize("status", [408, 412, 425, 429, 472, 473, 500, 502, 503, 504, 520])
def test_a_status_that_passes_is_unavailable(vault, reply, provider, status: int):
    vault.on("GET", PATH, reply(status, {"errors": ["not now"]}))
    error = failure(provider)
    assert type(error) is KeyUnavailableError
    assert f"answered {status} (not now)" in str(error)
    assert vault.url in str(error)
    assert len(vault.asked) == 1


def test_the_ring_tries_again_what_passes(vault, reply, provider):
    key = Key.generate()
    passing = [reply(status, {"errors": ["not now"]}) for status in (503, 412)]
    vault.on("GET", PATH, *passing, reply(breaks=True), reply(200, vault.secret(key)))
    ring = KeyRing(provider, retry=RetryPolicy(wait_min_s=0.001, wait_max_s=0.002))
    assert ring.active_sync().secret == key.secret
    assert len(vault.asked) == 4
    ring.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (405, ProviderConfigError),
        (412, KeyUnavailableError),
        (472, KeyUnavailableError),
        (473, KeyUnavailableError),
        (504, KeyUnavailableError),
    ],
)
def test_a_status_that_hvac_hides_behind_one_exception_is_got_at_with_a_ready_client(vault, reply, status: int, kind):
    import hvac

    vault.on("GET", PATH, reply(status, {"errors": ["not now"]}))
    client = hvac.Client(url=vault.url, token="t")
    with pytest.raises(hvac.exceptions.UnexpectedError):
        client.adapter.get(PATH)
    provider = VaultKvKeyProvider("agents/session-key", client=client)
    error = failure(provider)
    assert type(error) is kind
    assert f"answered {status} (not now)" in str(error)
    client.adapter.close()


@pytest.mark.parametrize("status", [400, 405, 501, 418])
def test_a_status_that_stays_is_a_wrong_setting_and_never_retried(vault, reply, provider, status: int):
    vault.on("GET", PATH, reply(status, {"errors": ["unsupported operation"]}))
    ring = KeyRing(provider, retry=RetryPolicy(wait_min_s=0.001, wait_max_s=0.002))
    with pytest.raises(ProviderConfigError, match=rf"answered {status} \(unsupported operation\)"):
        ring.active_sync()
    assert len(vault.asked) == 1
    ring.close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_denial_that_no_other_token_can_change_is_denied_at_once(vault, reply, provider, status: int):
    vault.on("GET", PATH, reply(status, {"errors": ["permission denied"]}))
    error = failure(provider)
    assert type(error) is KeyAccessDeniedError
    assert 'path "secret/data/agents/session-key" { capabilities = ["read"] }' in str(error)
    assert len(vault.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("helps", [True, False])
def test_a_denial_means_one_new_login_and_one_repetition(vault, reply, status: int, helps: bool):
    key = Key.generate()
    denied = reply(status, {"errors": ["permission denied"]})
    vault.on("GET", PATH, denied, reply(200, vault.secret(key)) if helps else denied)
    vault.on("POST", "/v1/auth/approle/login", vault.granted("first"), vault.granted("second"))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", role_id="r")
    if helps:
        assert provider.active().secret == key.secret
    else:
        assert type(failure(provider)) is KeyAccessDeniedError
    login, read = "POST auth/approle/login", "GET secret/data/agents/session-key"
    assert vault.paths() == [login, read, login, read]
    assert vault.tokens() == [None, "first", None, "second"]
    provider.close()


def test_a_policy_that_lacks_a_line_costs_one_login_and_not_one_at_every_request(vault, reply):
    """Each login leaves a token at the server, and may use up a secret id."""
    denied, key = reply(403, {"errors": ["permission denied"]}), Key.generate()
    vault.on("GET", PATH, denied)
    vault.on("POST", "/v1/auth/approle/login", *(vault.granted(f"t{number}") for number in range(50)))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", role_id="r")
    start = threading.Barrier(5)

    def ask() -> None:
        start.wait(10)
        assert type(failure(provider)) is KeyAccessDeniedError

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(10):
        assert type(failure(provider)) is KeyAccessDeniedError
    assert vault.paths().count("POST auth/approle/login") == 2  # the first one, and one in its place

    # A grant that counts for the token in hand is noticed at once, one that needs a new token in half a minute.
    vault.on("GET", PATH, reply(200, vault.secret(key)))
    assert provider.active().secret == key.secret
    vault.on(
        "GET", PATH, lambda asked: denied if asked.headers["X-Vault-Token"] == "t1" else reply(200, vault.secret(key))
    )
    assert provider.active().secret == key.secret
    assert vault.paths().count("POST auth/approle/login") == 3
    provider.close()


def test_a_function_that_makes_clients_is_not_called_at_every_denial(vault, reply):
    import hvac

    vault.on("GET", PATH, reply(403, {"errors": ["permission denied"]}))
    made: list[hvac.Client] = []

    def make() -> hvac.Client:
        made.append(hvac.Client(url=vault.url, token=f"t{len(made)}"))
        return made[-1]

    provider = VaultKvKeyProvider("agents/session-key", client=make)
    for _ in range(10):
        assert type(failure(provider)) is KeyAccessDeniedError
    assert len(made) == 2
    provider.close()
    for client in made:
        client.adapter.close()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("9" * 400, 86_400.0),
        (formatdate(0, usegmt=True), 0.0),
    ],
)
def test_retry_after_is_passed_on(vault, reply, provider, header: str, seconds: float | None):
    vault.on("GET", PATH, reply(429, {"errors": ["slow down"]}, {"Retry-After": header}))
    error = failure(provider)
    assert isinstance(error, KeyUnavailableError)
    assert error.retry_after_s == seconds


def test_nobody_listens(token_file: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    provider = VaultKvKeyProvider("x", address=address, auth="token-file", token_file=token_file)
    error = failure(provider)
    assert type(error) is KeyUnavailableError
    assert "connection refused" in str(error)


def test_the_host_has_no_address(token_file: Path):
    provider = VaultKvKeyProvider("x", address="https://no-such-host.invalid", auth="token-file", token_file=token_file)
    error = failure(provider)
    assert type(error) is KeyUnavailableError
    assert "name of the host was not found" in str(error)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses, which is another test")
def test_no_connection_within_the_time(token_file: Path):
    with full_backlog() as port:
        address = f"http://127.0.0.1:{port}"
        provider = VaultKvKeyProvider("x", address=address, auth="token-file", token_file=token_file)
        provider._connection._endpoint.__dict__["timeouts"] = (0.1, 2.0)
        error = failure(provider)
        provider.close()
    assert type(error) is KeyUnavailableError
    assert "no connection within 0.1 s" in str(error)


def test_the_connection_breaks_off(vault, reply, provider):
    vault.on("GET", PATH, reply(breaks=True))
    assert type(failure(provider)) is KeyUnavailableError


def test_the_answer_ends_in_the_middle(vault, reply, provider):
    vault.on("GET", PATH, reply(200, raw=b'{"data": ', headers={"Transfer-Encoding": "chunked"}))
    assert type(failure(provider)) is KeyUnavailableError


def test_no_answer_within_the_time(vault, reply, provider):
    go_on = threading.Event()
    provider._connection._endpoint.__dict__["timeouts"] = (1.0, 0.05)
    vault.on("GET", PATH, reply(200, waits=go_on))
    try:
        error = failure(provider)
    finally:
        go_on.set()
    assert type(error) is KeyUnavailableError
    assert "no answer within 0.05 s" in str(error)


def test_one_second_to_connect_and_two_to_answer_and_nothing_is_repeated(provider):
    adapter = provider._connection._ready()
    assert adapter._kwargs["timeout"] == (1.0, 2.0)
    assert {mounted.max_retries.total for mounted in adapter.session.adapters.values()} == {0}


@pytest.mark.parametrize("content", [b"<html>welcome</html>", b"[1, 2]", b"{}", b'{"data": null}', b'{"data": []}'])
def test_what_answers_is_no_vault(vault, reply, provider, content: bytes):
    vault.on("GET", PATH, reply(200, raw=content))
    error = failure(provider)
    assert type(error) is ProviderConfigError
    assert "check the address" in str(error)


def test_a_version_1_answer_is_refused_in_words(vault, reply, provider):
    vault.on("GET", PATH, reply(200, {"data": {"key": "x"}}))
    with pytest.raises(ProviderConfigError, match="version 1"):
        provider.active()


def test_a_redirect_to_plain_http_elsewhere_is_not_followed_with_the_token(vault, reply, provider):
    vault.on("GET", PATH, reply(307, None, {"Location": "http://192.0.2.1:8200/v1/secret/data/agents/session-key"}))
    with pytest.raises(ProviderConfigError, match="redirects to plain http"):
        provider.active()


def test_a_standby_may_send_to_the_active_server(vault, reply, provider):
    key = Key.generate()
    vault.on("GET", PATH, reply(307, None, {"Location": f"{vault.url}/v1/secret/data/there"}))
    vault.on("GET", "/v1/secret/data/there", reply(200, vault.secret(key, 7)))
    assert provider.active() == Key("7", key.secret)
    assert vault.tokens() == ["TOKEN", "TOKEN"]


def test_a_proxy_of_the_environment_is_not_between_us_and_this_machine(vault, token_file: Path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    key = Key.generate()
    vault.has_key(key)
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="token-file", token_file=token_file)
    assert provider.active().secret == key.secret
    provider.close()


def test_a_proxy_that_does_not_answer_is_an_outage_that_shows_no_password(token_file: Path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:S3cret@127.0.0.1:1")
    provider = VaultKvKeyProvider("x", address="https://vault.invalid", auth="token-file", token_file=token_file)
    error = failure(provider)
    assert type(error) is KeyUnavailableError
    assert "S3cret" not in str(error)
    provider.close()


def test_a_redirect_without_end_is_a_wrong_setting(vault, reply, provider):
    vault.on("GET", PATH, reply(307, None, {"Location": PATH}))
    assert type(failure(provider)) is ProviderConfigError


# Versions that are gone.


def gone(version: int, *, deleted: bool = False, destroyed: bool = False):
    metadata = {
        "created_time": "2026-11-23T01:52:43.018108633Z",
        "deletion_time": "2026-11-23T02:00:00.5Z" if deleted else "",
        "destroyed": destroyed,
        "version": version,
    }
    return {"data": {"data": None, "metadata": metadata}}


def test_the_newest_version_that_is_left_is_active(vault, reply, provider):
    key = Key.generate()
    vault.on("GET", PATH, reply(404, gone(5, deleted=True)))
    vault.on("GET", f"{PATH}?version=4", reply(404, gone(4, destroyed=True)))
    vault.on("GET", f"{PATH}?version=3", reply(200, vault.secret(key, 3)))
    assert provider.active().kid == Key("3", key.secret).kid
    assert len(vault.asked) == 3


@pytest.mark.parametrize(("deleted", "error"), [(True, KeyDisabledError), (False, KeyDestroyedError)])
def test_no_version_is_left(vault, reply, provider, deleted: bool, error: type[KeyProviderError]):
    vault.on("GET", PATH, reply(404, gone(3, destroyed=True)))
    vault.on("GET", f"{PATH}?version=2", reply(404, gone(2, deleted=deleted, destroyed=not deleted)))
    found = failure(provider)
    assert type(found) is error
    assert "versions 2 to 3" in str(found)
    assert vault.paths()[-1].endswith("?version=1")


def test_a_failure_on_the_way_to_an_older_version_is_that_failure(vault, reply, provider):
    vault.on("GET", PATH, reply(404, gone(3, deleted=True)))
    vault.on("GET", f"{PATH}?version=2", reply(503, {"errors": ["Vault is sealed"]}))
    assert type(failure(provider)) is KeyUnavailableError


@pytest.mark.parametrize("name", ["0", "01", "-1", "+1", "1.0", " 1", "1 ", "²", "latest", "", "~", "1" * 30])
def test_a_name_that_is_no_version_is_not_found_without_a_call(vault, provider, name: str):
    with pytest.raises(KeyNotFoundError) as caught:
        provider.get(name)
    assert type(caught.value) is KeyNotFoundError
    assert vault.asked == []


# The secret is no key.


def stored(fields: object):
    return {"data": {"data": fields, "metadata": {"version": 1, "created_time": "2026-11-23T01:52:43Z"}}}


SECRET = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({}, None, "no field 'key', and more than one field; it has no fields"),
        ({"a": SECRET, "b": SECRET}, None, "it has 'a', 'b'"),
        ({"key": SECRET}, "other", "no field 'other'; it has 'key'"),
        ({"key": SECRET}, None, r"the field 'key' of version 1 .* \(28 characters\)"),
        ({"only": ""}, None, r"the field 'only' of .* \(0 characters\) is not a key: it is empty"),
        ({"key": "QUJD"}, None, "it holds 3 bytes, but a key has 32"),
        ({"key": 1234567890}, None, "it holds a number"),
        ({"key": None}, None, "it holds nothing"),
        ({"key": True}, None, "it holds true or false"),
        ({"key": [SECRET]}, None, "it holds a list"),
        ({"key": {"key": SECRET}}, None, "it holds an object"),
        ({SECRET * 3: 1, "b": 2}, None, "one of 84 characters"),
    ],
)
def test_a_secret_that_is_no_key_is_told_by_its_length(vault, reply, token_file, fields, field, words: str):
    vault.on("GET", PATH, reply(200, stored(fields)))
    provider = VaultKvKeyProvider(
        "agents/session-key", field=field, address=vault.url, auth="token-file", token_file=token_file
    )
    with pytest.raises(InvalidKeyError, match=words) as caught:
        provider.active()
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert SECRET not in shown.replace(repr(fields), "")
    provider.close()


@pytest.mark.parametrize(
    ("names", "field"), [(["key"], None), (["key", "other"], None), (["anything"], None), (["a", "b"], "b")]
)
def test_the_key_is_in_its_field_or_the_only_one(vault, reply, token_file, names: list[str], field: str | None):
    key = Key.generate()
    taken = field or ("key" if "key" in names else names[0])
    fields = {name: key.reveal_base64() if name == taken else "something else" for name in names}
    vault.on("GET", PATH, reply(200, stored(fields)))
    provider = VaultKvKeyProvider(
        "agents/session-key", field=field, address=vault.url, auth="token-file", token_file=token_file
    )
    assert provider.active().secret == key.secret
    provider.close()


# TLS.


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    from datetime import datetime, timedelta, timezone
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vault of a test")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / f"{host}.crt", folder / f"{host}.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path


@pytest.fixture
def tls_vault(vault, tmp_path: Path):
    """The scripted server behind TLS, and its certificate."""
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    vault._http.use_tls(context)
    vault.url = vault.url.replace("http:", "https:")
    vault.certificate = cert
    return vault


def test_a_server_whose_ca_is_known_is_trusted(tls_vault, token_file: Path, monkeypatch):
    key = Key.generate()
    tls_vault.has_key(key)
    for variable in (None, "VAULT_CACERT", "BAO_CACERT"):
        given = {"ca_cert": tls_vault.certificate} if variable is None else {}
        with monkeypatch.context() as patch:
            if variable is not None:
                patch.setenv(variable, str(tls_vault.certificate))
            provider = VaultKvKeyProvider(
                "agents/session-key", address=tls_vault.url, auth="token-file", token_file=token_file, **given
            )
        assert provider.active().secret == key.secret
        provider.close()


def test_a_certificate_that_is_not_accepted_is_a_wrong_setting_that_names_the_ca(tls_vault, token_file, tmp_path):
    other, _ = certificate(tmp_path, "127.0.0.2")
    for given, named in (({}, "public CAs"), ({"ca_cert": other}, f"{other} (ca_cert)")):
        provider = VaultKvKeyProvider("x", address=tls_vault.url, auth="token-file", token_file=token_file, **given)
        error = failure(provider)
        assert type(error) is ProviderConfigError
        assert named in str(error)
        assert tls_vault.asked == []
        provider.close()


def test_a_ca_that_is_not_there_is_a_wrong_setting(tls_vault, token_file: Path):
    provider = VaultKvKeyProvider(
        "x", address=tls_vault.url, auth="token-file", token_file=token_file, ca_cert="/nowhere/ca.pem"
    )
    error = failure(provider)
    assert type(error) is ProviderConfigError
    assert "/nowhere/ca.pem" in str(error)
    provider.close()


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_client_key_with_a_passphrase_is_refused_and_not_asked_for_at_the_terminal(tls_vault, token_file, form):
    key_path = tls_vault.certificate.with_suffix(".key")
    key = load_pem_private_key(key_path.read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"S3cret"))
    both = key_path.with_suffix(".both")
    key_path.write_bytes(sealed)
    both.write_bytes(tls_vault.certificate.read_bytes() + sealed)
    for given in ({"client_cert": tls_vault.certificate, "client_key": key_path}, {"client_cert": both}):
        provider = VaultKvKeyProvider(
            "x",
            address=tls_vault.url,
            auth="token-file",
            token_file=token_file,
            ca_cert=tls_vault.certificate,
            **given,
        )
        with pytest.raises(ProviderConfigError, match="has a passphrase"):
            provider.active()
        provider.close()


def test_https_to_a_server_of_plain_http_is_a_wrong_setting(vault, token_file: Path):
    address = vault.url.replace("http:", "https:")
    provider = VaultKvKeyProvider("x", address=address, auth="token-file", token_file=token_file)
    error = failure(provider)
    assert type(error) is ProviderConfigError
    assert "uses https" in str(error)
    provider.close()


def test_a_handshake_that_breaks_off_is_an_outage(token_file: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=hang_up)
        thread.start()
        address = f"https://127.0.0.1:{server.getsockname()[1]}"
        provider = VaultKvKeyProvider("x", address=address, auth="token-file", token_file=token_file)
        error = failure(provider)
        thread.join()
    assert type(error) is KeyUnavailableError
    provider.close()


def test_unverified_tls_works_only_where_code_allows_it(tls_vault, token_file: Path, monkeypatch):
    key = Key.generate()
    tls_vault.has_key(key)
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
    given = {"address": tls_vault.url, "auth": "token-file", "token_file": token_file}
    with pytest.raises(ProviderConfigError, match="VAULT_SKIP_VERIFY"):
        VaultKvKeyProvider("agents/session-key", **given)
    with pytest.warns(UserWarning, match="not be verified"):
        provider = VaultKvKeyProvider("agents/session-key", allow_insecure=True, **given)
    # urllib3 warns of its own too, and rightly.
    with pytest.warns(Warning, match="Unverified HTTPS request"):
        assert provider.active().secret == key.secret
    provider.close()


# Nothing leaks.


def test_no_token_and_no_key_is_shown_by_an_error(vault, reply, provider, token_file: Path):
    token = "hvs." + "S3cretToken" * 4
    token_file.write_text(token)
    vault.on("GET", PATH, reply(403, {"errors": [f"no luck with {token}"]}))
    error = failure(provider)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert error.__cause__ is error.__context__ is None
    assert token not in repr(provider)
    # The scripted server is told the token, and a test's own frame shows it; ours does not.
    ours = [line for line in shown.splitlines() if token in line]
    assert not [line for line in ours if "token = " not in line], ours


def test_the_server_cannot_echo_a_credential_into_an_error(vault, reply):
    vault.on("POST", "/v1/auth/approle/login", lambda asked: reply(400, {"errors": [f"bad {asked.body['secret_id']}"]}))
    provider = VaultKvKeyProvider("x", address=vault.url, auth="approle", role_id="r", secret_id="S3cret" * 4)
    with pytest.raises(KeyAccessDeniedError) as caught:
        provider.active()
    assert "S3cret" not in str(caught.value)
    assert "bad ..." in str(caught.value)
    provider.close()


def test_a_server_that_does_not_connect_has_no_frames_of_requests_in_its_error(token_file: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    provider = VaultKvKeyProvider("x", address=address, auth="token-file", token_file=token_file)
    error = failure(provider)
    assert error.__cause__ is error.__context__ is None
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "site-packages/requests" not in shown
