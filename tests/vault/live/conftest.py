"""A real Vault or OpenBao: in dev mode, and with TLS and files, sealed and unsealed."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from encrypted_sessions_tests.loopback_http import LoopbackServer
from encrypted_sessions_tests.servers import ProgramMissingError, Server
from keyproviders import Key

PROGRAM = next((found for found in map(shutil.which, ("bao", "vault")) if found), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("live_vault")


class VaultServer(Server):
    """In dev mode: unsealed, in memory, with the root token ``root``, and a KV version 2 mount at ``secret``."""

    name = "vault"
    interrupt = signal.SIGINT
    crash = signal.SIGKILL
    root_token = "root"

    def __init__(self) -> None:
        if PROGRAM is None:
            raise ProgramMissingError("neither bao nor vault is on PATH (openbao.org has packages of bao)")
        self._program = PROGRAM
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def verify(self) -> str | bool:
        return True

    def client(self, token: str | None = None, **given: Any) -> Any:
        """An hvac client of root, or of another token."""
        import hvac

        return hvac.Client(url=self.url, token=token or self.root_token, verify=self.verify, **given)

    def _command(self) -> list[str]:
        listen = f"-dev-listen-address=127.0.0.1:{self.port}"
        return [self._program, "server", "-dev", f"-dev-root-token-id={self.root_token}", "-dev-no-store-token", listen]

    def _ready(self, pid: int) -> bool:
        client = self.client("none")
        try:
            status = client.seal_status
        except OSError:
            return False
        finally:
            client.adapter.close()
        return not status["sealed"] and listens(pid, self.port)


class LoggedVaultServer(VaultServer):
    """In dev mode, with an audit device: everything that is asked stands in ``audit_log``."""

    name = "vault-audit"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def _prepare(self) -> None:
        # OpenBao takes an audit device from its configuration alone, Vault from its API alone.
        self._by_configuration = Path(self._program).name == "bao"

    def _command(self) -> list[str]:
        command = super()._command()
        if not self._by_configuration:
            return command
        config = self.folder / "audit.hcl"
        options = f'file_path = "{self.audit_log}"'
        config.write_text(f'audit "file" "to-file" {{\n  options {{ {options} }}\n}}\n')
        return [*command, f"-config={config}"]

    def start(self) -> None:
        super().start()
        if not self._by_configuration:
            root = self.client()
            root.sys.enable_audit_device("file", path="to-file", options={"file_path": str(self.audit_log)})
            root.adapter.close()

    def audited(self) -> list[dict[str, Any]]:
        """Each request and each response that was logged, in order."""
        return [json.loads(line) for line in self.audit_log.read_text().splitlines()]


class StoredVaultServer(VaultServer):
    """With TLS and file storage: sealed after each start, until ``unseal()``."""

    name = "vault-tls"

    def _prepare(self) -> None:
        self.certificate, key = make_certificate(self.folder)
        (self.folder / "data").mkdir()
        for path in (self.certificate, key, self.folder / "data"):
            if self._user is not None:
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._key_path = key
        self._unseal_key = ""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def verify(self) -> str | bool:
        return str(self.certificate)

    def _command(self) -> list[str]:
        config = self.folder / "config.json"
        config.write_text(
            json.dumps(
                {
                    "storage": {"file": {"path": str(self.folder / "data")}},
                    "listener": {
                        "tcp": {
                            "address": f"127.0.0.1:{self.port}",
                            "tls_cert_file": str(self.certificate),
                            "tls_key_file": str(self._key_path),
                        }
                    },
                    "api_addr": self.url,
                    "disable_mlock": True,
                }
            )
        )
        return [self._program, "server", f"-config={config}"]

    def _ready(self, pid: int) -> bool:
        client = self.client("none")
        try:
            _ = client.seal_status
        except OSError:
            return False
        finally:
            client.adapter.close()
        return listens(pid, self.port)

    def unseal(self) -> None:
        """Make it usable; the first time it is initialised, too."""
        client = self.client("none")
        if not client.sys.is_initialized():
            made = client.sys.initialize(secret_shares=1, secret_threshold=1)
            self._unseal_key, self.root_token = made["keys"][0], made["root_token"]
            client.sys.submit_unseal_key(self._unseal_key)
            self._until_active(client)
            root = self.client()
            root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
            _until(lambda: root.secrets.kv.v2.create_or_update_secret("ready", {"key": "1"}))
            root.adapter.close()
        elif client.seal_status["sealed"]:
            client.sys.submit_unseal_key(self._unseal_key)
            self._until_active(client)
        client.adapter.close()

    @staticmethod
    def _until_active(client: Any) -> None:
        deadline = time.monotonic() + 30
        while not isinstance(client.sys.read_health_status(method="GET"), dict) and time.monotonic() < deadline:
            time.sleep(0.02)  # anything but a 200 comes as a response

    def restore(self) -> None:
        super().restore()
        self.unseal()


def listens(pid: int, port: int) -> bool:
    """Whether this very process listens there, and not another one that took the port."""
    found = psutil.Process(pid).net_connections(kind="tcp")
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)


def _until(call: Callable[[], object]) -> None:
    """A new mount takes a moment to upgrade itself."""
    import hvac

    deadline = time.monotonic() + 30
    while True:
        try:
            call()
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.InvalidPath):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vault of a test")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class Issuer:
    """Signs JSON Web Tokens (RS256), as a cluster or an identity provider does."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        self.public_key = (
            self._key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def token(self, *, life_s: float = 600, **claims: Any) -> str:
        now = time.time()
        body = {"iat": int(now) - 5, "nbf": int(now) - 5, "exp": int(now + life_s), "aud": ["vault"], **claims}
        signed = ".".join(_segment(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, body))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_segment(signature)}"

    def service_account(self, name: str) -> str:
        subject = f"system:serviceaccount:prod:{name}"
        account = {"namespace": "prod", "serviceaccount": {"name": name, "uid": "u1"}}
        return self.token(sub=subject, iss="kubernetes", **{"kubernetes.io": account})


def _segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class TokenReviewer:
    """The one call of a Kubernetes API server that the login makes: it believes every token."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                claims = review["spec"]["token"].split(".")[1]
                subject = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
                groups = ["system:serviceaccounts", "system:serviceaccounts:prod", "system:authenticated"]
                review["status"] = {
                    "authenticated": True,
                    "audiences": review["spec"].get("audiences", []),
                    "user": {"username": subject, "uid": "u1", "groups": groups},
                }
                content = json.dumps(review).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._http = LoopbackServer(Handler)
        self.url = self._http.url

    def close(self) -> None:
        self._http.close()


class Place:
    """One test's own secret in a server, with whoever may read it."""

    def __init__(self, server: VaultServer) -> None:
        self.server = server
        self.root = server.client()
        self.path = f"agents/{secrets.token_hex(4)}"
        self.policy = f"reader-{secrets.token_hex(4)}"
        self.keys: list[Key] = []

    def write(self) -> Key:
        key = Key.generate()
        answer = self.root.secrets.kv.v2.create_or_update_secret(self.path, {"key": key.reveal_base64()})
        named = Key(str(answer["data"]["version"]), key.secret)
        self.keys.append(named)
        return named

    def delete(self, *versions: int) -> None:
        self.root.secrets.kv.v2.delete_secret_versions(self.path, list(versions))

    def undelete(self, *versions: int) -> None:
        self.root.secrets.kv.v2.undelete_secret_versions(self.path, list(versions))

    def destroy(self, *versions: int) -> None:
        self.root.secrets.kv.v2.destroy_secret_versions(self.path, list(versions))

    def allow(self, text: str | None = None) -> str:
        """A policy of this text; without one, the one line that a provider needs. Gives its name."""
        rule = f'path "secret/data/{self.path}" {{ capabilities = ["read"] }}'
        self.root.sys.create_or_update_policy(self.policy, rule if text is None else text)
        return self.policy

    def token(self, **given: Any) -> str:
        made = self.root.auth.token.create(policies=[self.allow()], **given)
        return str(made["auth"]["client_token"])

    def approle(self, **settings: Any) -> Mapping[str, str]:
        """A role of its own; gives the arguments of a provider that logs in with it."""
        mount = f"approle-{secrets.token_hex(4)}"
        self.root.sys.enable_auth_method("approle", path=mount)
        self.root.auth.approle.create_or_update_approle(
            "agents", token_policies=[self.allow()], mount_point=mount, **settings
        )
        role_id = self.root.auth.approle.read_role_id("agents", mount_point=mount)["data"]["role_id"]
        secret_id = self.root.auth.approle.generate_secret_id("agents", mount_point=mount)["data"]["secret_id"]
        return {"auth": "approle", "auth_mount": mount, "role_id": role_id, "secret_id": secret_id}

    def close(self) -> None:
        self.root.adapter.close()


class Transit:
    """One test's own Transit mount in a server, with a derived key ``agents``, and whoever may use it."""

    def __init__(self, server: VaultServer) -> None:
        self.server = server
        self.root = server.client()
        self.mount = f"transit-{secrets.token_hex(4)}"
        self.root.sys.enable_secrets_engine("transit", path=self.mount)
        self.make_key("agents")

    def make_key(self, name: str, *, derived: bool = True, **settings: Any) -> None:
        self.write(f"keys/{name}", derived=derived, **settings)

    def write(self, path: str, **body: Any) -> Any:
        """Ask the mount for something, as root. Gives the body of the answer."""
        answer = self.root.adapter.post(f"/v1/{self.mount}/{path}", json=body)
        return answer if isinstance(answer, dict) else None

    def rotate(self, times: int = 1, name: str = "agents") -> None:
        for _ in range(times):
            self.write(f"keys/{name}/rotate")

    def rule(self, operation: str, key: str = "agents") -> str:
        """A line of policy that allows one operation."""
        return f'path "{self.mount}/{operation}/{key}" {{ capabilities = ["update"] }}'

    def token(self, *rules: str, **given: Any) -> str:
        """A token with exactly these lines of policy, and the default one."""
        policy = f"transit-{secrets.token_hex(4)}"
        self.root.sys.create_or_update_policy(policy, "\n".join(rules) or "# nothing")
        return str(self.root.auth.token.create(policies=[policy], **given)["auth"]["client_token"])

    def close(self) -> None:
        self.root.adapter.close()


def _running(make: Callable[[], VaultServer]) -> Iterator[VaultServer]:
    try:
        server = make()
    except ProgramMissingError as missing:
        # A skip whatever ENCRYPTED_SESSIONS_REQUIRE_SERVERS says: no registry has this server to install.
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(scope="session")
def _dev_server() -> Iterator[VaultServer]:
    yield from _running(VaultServer)


@pytest.fixture(scope="session")
def _stored_server() -> Iterator[VaultServer]:
    yield from _running(StoredVaultServer)


@pytest.fixture
def place(_dev_server: VaultServer) -> Iterator[Place]:
    """A secret of this test's own in the dev server, still unwritten."""
    made = Place(_dev_server)
    yield made
    made.close()


@pytest.fixture
def stored_place(_stored_server: StoredVaultServer) -> Iterator[Place]:
    """The same in the server with TLS and files, which is unsealed. It runs again after the test."""
    _stored_server.restore()
    made = Place(_stored_server)
    yield made
    made.close()
    _stored_server.restore()


@pytest.fixture(scope="session")
def _logged_server() -> Iterator[LoggedVaultServer]:
    for server in _running(LoggedVaultServer):
        assert isinstance(server, LoggedVaultServer)
        yield server


@pytest.fixture
def transit(_dev_server: VaultServer) -> Iterator[Transit]:
    """A Transit mount of this test's own in the dev server."""
    made = Transit(_dev_server)
    yield made
    made.close()


@pytest.fixture
def logged_transit(_logged_server: LoggedVaultServer) -> Iterator[Transit]:
    """The same in the server that has an audit device."""
    made = Transit(_logged_server)
    yield made
    made.close()


@pytest.fixture
def stored_transit(_stored_server: StoredVaultServer) -> Iterator[Transit]:
    """The same in the server with TLS and files, which is unsealed. It runs again after the test."""
    _stored_server.restore()
    made = Transit(_stored_server)
    yield made
    made.close()
    _stored_server.restore()


@pytest.fixture
def some_ca(tmp_path: Path) -> str:
    """A certificate, for settings that demand one and do not use it."""
    return make_certificate(tmp_path)[0].read_text()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def reviewer() -> Iterator[TokenReviewer]:
    made = TokenReviewer()
    yield made
    made.close()
