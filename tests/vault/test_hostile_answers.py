"""Answers that no good server gives: without end, too large, too deep, elsewhere, of another kind.

Whoever is between a process and its server, or took the server's place, must neither hold the process up nor see its
token in a report of an error.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions_tests.scripted_vault import ScriptedVault
from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.vault import VaultKvKeyProvider
from keyproviders.vault.address import redirect_target
from keyproviders.vault.transport import bound

PATH = "/v1/secret/data/agents/session-key"
TOKEN = "hvs." + "S3cretToken" * 3
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class RawServer:
    """Sends the same bytes to everybody: at first some at once, then one each moment, until the other side is gone."""

    def __init__(self) -> None:
        self.at_once = b""
        self.drips: Callable[[], Iterator[bytes]] = lambda: iter(())
        self.hung_up = threading.Event()
        self._ending = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ending.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65_536)
                    connection.sendall(self.at_once)
                    for one in self.drips():
                        connection.sendall(one)
                        if self._ending.wait(0.01):
                            return
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    self.hung_up.set()

    def close(self) -> None:
        self._ending.set()
        # Closing a socket does not wake who waits in accept().
        with socket.create_connection(self._socket.getsockname()):
            pass
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def raw() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()


@pytest.fixture
def asks(token_file: Path) -> Iterator[Callable[..., VaultKvKeyProvider]]:
    """Makes providers with a token that would be noticed anywhere."""
    token_file.write_text(TOKEN)
    made: list[VaultKvKeyProvider] = []

    def make(address: str, **given: Any) -> VaultKvKeyProvider:
        login = {} if "client" in given else {"auth": "token-file", "token_file": token_file, "address": address}
        made.append(VaultKvKeyProvider("agents/session-key", **{**login, **given}))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


def in_a_hurry(provider: VaultKvKeyProvider) -> VaultKvKeyProvider:
    provider._connection._endpoint.__dict__["timeouts"] = (1.0, 0.3)
    return provider


def failure(call: Callable[[], object]) -> KeyProviderError:
    """The error, which shows the token nowhere: not in its words, not in the frames that it carries."""
    with pytest.raises(KeyProviderError) as caught:
        call()
    error = caught.value
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert TOKEN not in "".join(told.format())
    assert error.__cause__ is error.__context__ is None
    return error


def endless(piece: bytes) -> Callable[[], Iterator[bytes]]:
    def drips() -> Iterator[bytes]:
        while True:
            yield piece

    return drips


@pytest.mark.parametrize(
    ("at_once", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Content-Length: 100000\r\n\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (OK + b"Connection: close\r\n\r\n", b" "),
    ],
    ids=["no status", "a header", "headers", "continue", "length", "chunks", "a chunk's size", "until closed"],
)
def test_an_answer_that_drips_ends_with_the_time_for_an_answer(raw, asks, at_once: bytes, piece: bytes):
    raw.at_once, raw.drips = at_once, endless(piece)
    error = failure(in_a_hurry(asks(raw.url)).active)
    # Some drips are too many headers before they are too slow; then it is that.
    assert type(error) is KeyUnavailableError
    assert "no answer within 0.3 s" in str(error) or piece == b"X: y\r\n"
    assert raw.hung_up.wait(10)


def test_a_proxy_that_drips_ends_too(raw, asks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", raw.url)
    raw.drips = endless(b"H")
    assert type(failure(in_a_hurry(asks("https://vault.invalid")).active)) is KeyUnavailableError


def test_a_proxy_of_another_kind_stays_in_between_and_is_bounded_too(monkeypatch: pytest.MonkeyPatch):
    """SOCKS has connections of its own: in their place a plain one would go past the proxy."""
    import requests
    from urllib3 import HTTPSConnectionPool, PoolManager

    class SocksPool(HTTPSConnectionPool):
        pass

    class SocksManager(PoolManager):
        def __init__(self, _: str, **given: Any) -> None:
            super().__init__(**{name: given[name] for name in ("num_pools", "maxsize", "block")})
            self.pool_classes_by_scheme = {"https": SocksPool}

    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", SocksManager)
    session = requests.Session()
    bound(session, "https://vault.example")
    adapter = session.get_adapter("https://vault.example")
    managers = [adapter.proxy_manager_for("socks5://127.0.0.1:1") for _ in range(2)]
    assert managers[0] is managers[1]
    pool = managers[1].pool_classes_by_scheme["https"]
    assert issubclass(pool, SocksPool)
    assert pool.__mro__[1] is SocksPool  # bounded once, and not at each request
    assert pool.ConnectionCls.response_class.__name__ == "_BoundedResponse"


@pytest.mark.parametrize("head", [b"Content-Length: 1000000000\r\n\r\n", b"Connection: close\r\n\r\n"])
def test_an_answer_that_is_too_large_is_not_read_to_its_end(raw, asks, head: bytes):
    raw.at_once, raw.drips = OK + head, endless(b" " * 1_000_000)
    error = failure(asks(raw.url).active)
    assert type(error) is ProviderConfigError
    assert "larger than 4 MiB" in str(error)


def test_an_answer_that_was_compressed_is_not_unpacked(vault, reply, asks):
    bomb = gzip.compress(b" " * 50_000_000)
    vault.on("GET", PATH, reply(200, raw=bomb, headers={"Content-Encoding": "gzip"}))
    error = failure(asks(vault.url).active)
    assert type(error) is ProviderConfigError
    assert "compressed" in str(error)
    assert vault.asked[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":' * 100_000,
        b"[" * 100_000,
        b'{"data": {"data": {"key": "x"}, "metadata": {"version": ' + b"9" * 5_000 + b"}}}",
        b'{"data": {"data": {"key": "x"}, "metadata": {"version": 1e400}}}',
        b'{"data": {"data": {"key": "x"}, "metadata": {"version": true}}}',
        b'{"data": {"data": {"key": "x"}, "metadata": {"version": -1}}}',
        b'{"data": {"data": {"key": "x"}, "metadata": {"version": 0}}}',
        b'{"data": {"data": {"key": "x"}, "metadata": {"version": "1"}}}',
        b'{"data": {"data": {"key": "x"}, "metadata": {"version": 1000000000000000000}}}',
        b'{"data": {"data": "x", "metadata": {"version": 1}}}',
        b'{"data": {"data": null, "metadata": {"version": 1}}}',
        b'\xff\xfe{"data": 1}',
        b"\x00" * 100,
    ],
)
def test_a_body_that_no_server_sends_is_no_vault(vault, reply, asks, body: bytes):
    vault.on("GET", PATH, reply(200, raw=body))
    assert type(failure(asks(vault.url).active)) is ProviderConfigError


def test_a_field_that_is_nested_without_reason_is_no_key(vault, reply, asks):
    nested = b'{"a":' * 200 + b"1" + b"}" * 200
    body = b'{"data": {"data": {"key": ' + nested + b'}, "metadata": {"version": 1}}}'
    vault.on("GET", PATH, reply(200, raw=body))
    assert type(failure(asks(vault.url).active)) is InvalidKeyError


@pytest.mark.parametrize("time", ["", None, 7, "9999-99-99T99:99:99Z", "0001-01-01T00:00:00+23:59", "x" * 10_000])
def test_times_that_are_none_do_no_harm(vault, reply, asks, time: Any):
    key = Key.generate()
    answer = vault.secret(key, 3)
    answer["data"]["metadata"]["created_time"] = time
    vault.on("GET", PATH, reply(200, answer))
    found = asks(vault.url).active()
    assert (found.secret, found.created_at) == (key.secret, None)


def test_another_version_than_was_asked_for_is_no_answer(vault, reply, asks):
    vault.on("GET", f"{PATH}?version=3", reply(200, vault.secret(Key.generate(), 4)))
    assert type(failure(lambda: asks(vault.url).get("3"))) is ProviderConfigError


def test_what_is_said_of_another_version_destroys_nothing(vault, reply, asks):
    metadata = {"version": 4, "destroyed": True, "created_time": "", "deletion_time": ""}
    vault.on("GET", f"{PATH}?version=3", reply(404, {"data": {"data": None, "metadata": metadata}}))
    error = failure(lambda: asks(vault.url).get("3"))
    assert isinstance(error, KeyNotFoundError)
    assert not isinstance(error, KeyDestroyedError)


@pytest.mark.parametrize("kind", [["kv"], {"a": 1}, None, 7, "k" * 10_000])
@pytest.mark.parametrize("path", ["secret/", "m" * 10_000, 7])
def test_a_mount_that_says_nonsense_of_itself_changes_nothing(vault, reply, asks, kind: Any, path: Any):
    look = "/v1/sys/internal/ui/mounts/secret/agents/session-key"
    vault.on("GET", look, reply(200, {"data": {"type": kind, "path": path, "options": [1]}}))
    error = failure(asks(vault.url).active)
    assert isinstance(error, (KeyNotFoundError, ProviderConfigError))
    assert len(str(error)) < 1_000


@pytest.mark.parametrize(
    "location",
    [
        "http://192.0.2.1:8200/v1/x",
        "HTTP://192.0.2.1:8200/v1/x",
        "//192.0.2.1:8200/v1/x",
        "https://[::1",
        "https://\xff\xfe/",
        "ftp://127.0.0.1/x",
        "https://",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:nine/x",
    ],
)
def test_a_redirect_to_where_no_server_is_is_a_wrong_setting_that_shows_no_token(vault, reply, asks, location: str):
    vault.on("GET", PATH, reply(307, None, {"Location": location}))
    assert type(failure(asks(vault.url).active)) is ProviderConfigError
    assert len(vault.asked) == 1


def test_a_redirect_from_https_to_plain_http_is_refused_on_this_machine_too():
    """Whoever listens there would get the token; the servers' own programs refuse it as well."""
    there = "http://127.0.0.1:8200"
    with pytest.raises(OSError, match="redirects to plain http"):
        redirect_target("https://vault.example/v1/x", f"{there}/v1/x", {there}, allow_insecure=False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_server_that_nobody_named_takes_no_token_there(vault, reply, asks, status: int):
    other = ScriptedVault()
    with closing(other):
        other.has_key(Key.generate())
        vault.on("GET", PATH, reply(status, None, {"Location": f"{other.url}{PATH}"}))
        error = failure(asks(vault.url).active)
        assert type(error) is ProviderConfigError
        assert f"give also_address={other.url}" in str(error)
        assert other.asked == []


def test_a_redirect_to_an_address_that_was_named_is_followed(vault, reply, asks):
    other = ScriptedVault()
    with closing(other):
        key = Key.generate()
        other.has_key(key)
        vault.on("GET", PATH, reply(307, None, {"Location": f"{other.url}{PATH}"}))
        for also in (other.url, ["http://127.0.0.1:1", other.url], f"http://127.0.0.1:1,{other.url}"):
            assert asks(vault.url, also_address=also).active().secret == key.secret
        assert other.tokens() == [TOKEN] * 3


def test_an_address_is_named_in_a_url_too(vault, reply, token_file: Path):
    other = ScriptedVault()
    with closing(other):
        key = Key.generate()
        other.has_key(key)
        vault.on("GET", PATH, reply(307, None, {"Location": f"{other.url}{PATH}"}))
        also = f"also_address=http://127.0.0.1:1,{other.url}"
        url = f"vault-kv:secret/agents/session-key?address={vault.url}&{also}&auth=token-file&token_file={token_file}"
        assert VaultKvKeyProvider.from_url(url).active().secret == key.secret


def test_a_redirect_of_a_login_takes_no_secret_id_to_a_server_that_nobody_named(vault, reply, tmp_path: Path):
    other = ScriptedVault()
    with closing(other):
        other.on("POST", "/v1/auth/approle/login", other.granted("TOKEN"))
        vault.on("POST", "/v1/auth/approle/login", reply(307, None, {"Location": f"{other.url}/v1/auth/approle/login"}))
        asked = VaultKvKeyProvider("x", address=vault.url, auth="approle", role_id="r", secret_id="S3cret")
        with pytest.raises(ProviderConfigError, match="also_address"):
            asked.active()
        assert other.asked == []
        named = VaultKvKeyProvider(
            "x", address=vault.url, also_address=other.url, auth="approle", role_id="r", secret_id="S3cret"
        )
        with pytest.raises(KeyNotFoundError):
            named.active()
        assert [one.body for one in other.asked] == [{"role_id": "r", "secret_id": "S3cret"}]


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_turn_a_login_into_a_question_is_not_followed(vault, reply, status: int):
    vault.on("POST", "/v1/auth/approle/login", reply(status, None, {"Location": "/v1/there"}))
    with pytest.raises(ProviderConfigError, match=f"answered {status}"):
        VaultKvKeyProvider("x", address=vault.url, auth="approle", role_id="r", secret_id="S3cret").active()
    assert len(vault.asked) == 1


@pytest.mark.parametrize(
    "location",
    [
        "http://evil\\@{host}/x",
        "http://{host}\\@evil/x",
        "http://me@{host}/x",
        "http://me:word@{host}/x",
        "http:\\\\{host}/x",
        "http://{host}\\x",
        "http://{host}%2f@evil/x",
        "http://{host};@evil/x",
        "http://{host}#@evil/x",
        "http://{host}?@evil/x",
        "\\\\evil/x",
        "/\\evil/x",
    ],
)
def test_what_two_parsers_take_for_different_hosts_is_not_followed(vault, reply, asks, location: str):
    host = vault.url.removeprefix("http://")
    vault.on("GET", PATH, reply(307, None, {"Location": location.format(host=host)}))
    assert type(failure(asks(vault.url).active)) is ProviderConfigError
    assert len(vault.asked) == 1


@pytest.mark.parametrize("argument", ["address", "also_address"])
@pytest.mark.parametrize(
    "address",
    [
        "http://evil\\@127.0.0.1",
        "http://127.0.0.1\\@evil",
        "http://127.0.0.1\\.evil",
        "https://v\u2100.example",
        "https://a b",
    ],
)
def test_an_address_that_two_parsers_take_for_different_hosts_is_refused(argument: str, address: str):
    with pytest.raises(ProviderConfigError, match=argument):
        VaultKvKeyProvider("x", **{"address": "https://vault.example", argument: address})


def test_an_address_of_the_wrong_type_is_a_type_error():
    for wrong in (3, [3], {"https://vault.example"}):
        with pytest.raises(TypeError, match="also_address"):
            VaultKvKeyProvider("x", address="https://vault.example", also_address=wrong)  # type: ignore[arg-type]


def test_three_redirects_are_enough(vault, reply, asks):
    vault.on("GET", PATH, reply(307, None, {"Location": PATH}))
    assert type(failure(asks(vault.url).active)) is ProviderConfigError
    assert len(vault.asked) == 4


def test_a_password_of_netrc_is_not_sent_along(vault, reply, asks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "netrc").write_text("default login me password S3cret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    vault.has_key(Key.generate())
    vault.on("GET", "/v1/secret/data/there", reply(200, vault.secret(Key.generate())))
    vault.on("GET", PATH, reply(307, None, {"Location": f"{vault.url}/v1/secret/data/there"}))
    asks(vault.url).active()
    assert len(vault.asked) == 2
    assert not [one for one in vault.asked if "Authorization" in one.headers]


@pytest.mark.parametrize("words", ["\x1b[31mred\x1b[0m", "a\u202eb", "a\x00b", "a\x7fb"])
def test_the_words_of_a_server_hold_nothing_that_a_terminal_obeys(vault, reply, asks, words: str):
    vault.on("GET", PATH, reply(403, {"errors": [words]}))
    error = failure(asks(vault.url).active)
    assert type(error) is KeyAccessDeniedError
    assert str(error).isprintable()


@pytest.mark.parametrize("errors", [["x" * 100_000], [["a"] * 10_000], "text", {"a": 1}, [None], None])
def test_the_words_of_a_server_are_cut(vault, reply, asks, errors: Any):
    vault.on("GET", PATH, reply(500, {"errors": errors}))
    assert len(str(failure(asks(vault.url).active))) < 700


@pytest.mark.parametrize("life", ["1e400", "-1", "NaN", "Infinity", '"3600"', "null", "[]", "9" * 4_000, "true"])
def test_a_life_that_no_token_has_does_no_harm(vault, reply, life: str):
    key = Key.generate()
    vault.has_key(key)
    body = '{"auth": {"client_token": "t", "renewable": true, "lease_duration": ' + life + "}}"
    vault.on("POST", "/v1/auth/approle/login", reply(200, raw=body.encode()))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", role_id="r")
    assert provider.active().secret == key.secret
    provider.close()


@pytest.mark.parametrize("token", ["two words", "line\r\nX-Evil: 1", "é", "", 7, None, ["t"]])
def test_a_token_that_no_header_can_hold_is_none_when_it_is_granted(vault, reply, token: Any):
    vault.has_key(Key.generate())
    vault.on("POST", "/v1/auth/approle/login", vault.granted(token))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", role_id="r")
    assert type(failure(provider.active)) is ProviderConfigError
    assert len(vault.asked) == 1
    provider.close()


def test_a_renewal_that_grants_no_token_leads_to_a_new_login(vault, reply):
    vault.has_key(Key.generate())
    vault.on("POST", "/v1/auth/approle/login", vault.granted("first", 3_600), vault.granted("second", 3_600))
    vault.on("POST", "/v1/auth/token/renew-self", vault.granted("line\r\nX-Evil: 1", 7_200))
    provider = VaultKvKeyProvider("agents/session-key", address=vault.url, auth="approle", role_id="r")
    provider.active()
    provider._connection._tokens._token.due_at = 0.0
    provider.active()
    assert vault.tokens() == [None, "first", "first", None, "second"]
    provider.close()


def test_a_file_without_end_is_no_token(asks, vault, tmp_path: Path):
    large, pipe = tmp_path / "large", tmp_path / "pipe"
    large.write_text("t" * 100_000)
    os.mkfifo(pipe, 0o600)
    for path, problem in ((Path("/dev/zero"), "is not a file"), (pipe, "is not a file"), (large, "is larger than")):
        provider = VaultKvKeyProvider("x", address=vault.url, auth="token-file", token_file=path)
        with pytest.raises(ProviderConfigError, match=f"{path} {problem}"):
            provider.active()
        provider.close()


def test_random_bytes_are_an_outage_or_no_vault(raw, asks):
    """Heads and bodies that are cut, doubled and mixed up; whatever comes, an error of the tree comes of it."""
    import random

    rng = random.Random(20261123)
    body = json.dumps({"data": {"data": {"key": "QUJD"}, "metadata": {"version": 1}}}).encode()
    good = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(150):
        spoilt = bytearray(good)
        for _ in range(rng.randrange(1, 8)):
            at = rng.randrange(len(spoilt))
            how = rng.randrange(3)
            if how == 0:
                spoilt[at] = rng.randrange(256)
            elif how == 1:
                del spoilt[at : at + rng.randrange(1, 12)]
            else:
                spoilt[at:at] = spoilt[at : at + rng.randrange(1, 12)]
        raw.at_once = bytes(spoilt)
        failure(in_a_hurry(asks(raw.url)).active)
