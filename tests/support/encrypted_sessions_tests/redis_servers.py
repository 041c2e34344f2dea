"""Servers of Redis that keep their rows, that speak TLS, and that others watch: a primary, its replica, a Sentinel."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from .servers import RedisServer, free_port

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WATCHED", "LastingRedisServer", "TlsRedisServer", "WatchedRedis", "make_certificates"]

WATCHED = "mymaster"
"""What a Sentinel calls the primary."""

_PATIENCE_S = 30.0
_DAY = dt.timedelta(days=1)


class LastingRedisServer(RedisServer):
    """Keeps its rows when it is killed, and its users once `ACL SAVE` was told."""

    def _command(self) -> list[str]:
        users = self.folder / "users.acl"
        users.touch()
        self._give_to_user(users)
        # What was written to the file outlives the process, though not the machine.
        return [*super()._command(), "--appendonly", "yes", "--appendfsync", "no", "--aclfile", str(users)]


class TlsRedisServer(LastingRedisServer):
    """Takes connections on a second port, too, by TLS alone. An authority of its own has signed its certificate."""

    def _prepare(self) -> None:
        super()._prepare()
        self._tls_port = free_port()
        self.authority = self.folder / "authority.pem"
        self._certificate, self._key = self.folder / "server.pem", self.folder / "server.key"
        make_certificates(self.authority, self._certificate, self._key)
        for file in (self.authority, self._certificate, self._key):
            self._give_to_user(file)

    @property
    def tls_url(self) -> str:
        """For whoever does not know the authority."""
        return f"rediss://127.0.0.1:{self._tls_port}/0"

    @property
    def trusted_url(self) -> str:
        """For whoever knows it."""
        return f"{self.tls_url}?ssl_ca_certs={self.authority}"

    def _command(self) -> list[str]:
        files = {"cert": self._certificate, "key": self._key, "ca-cert": self.authority}
        tls = [part for name, path in files.items() for part in (f"--tls-{name}-file", str(path))]
        return [*super()._command(), "--tls-port", str(self._tls_port), "--tls-auth-clients", "no", *tls]


class _Replica(RedisServer):
    """Follows another server. Both are in memory only."""

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        self._primary = primary

    def _command(self) -> list[str]:
        return [*super()._command(), "--replicaof", "127.0.0.1", str(self._primary.port)]


class _Sentinel(RedisServer):
    """Watches one primary, and makes its replica the primary when it is gone."""

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        self._primary = primary

    def _command(self) -> list[str]:
        # It writes into this file what it learns.
        settings = self.folder / "sentinel.conf"
        settings.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {self.folder}\n"
            f"sentinel monitor {WATCHED} 127.0.0.1 {self._primary.port} 1\n"
            f"sentinel down-after-milliseconds {WATCHED} 500\n"
            f"sentinel failover-timeout {WATCHED} 5000\n"
        )
        self._give_to_user(settings)
        return [self._program, str(settings), "--sentinel"]


class WatchedRedis:
    """A primary, a replica and a Sentinel, to be entered."""

    def __init__(self) -> None:
        self._servers: list[RedisServer] = []

    def __enter__(self) -> Self:
        try:
            primary = self._started(RedisServer())
            # Else a replica waits for five seconds, so that others may join it.
            with redis.Redis.from_url(primary.url) as client:
                client.config_set("repl-diskless-sync-delay", 0)
            replica = self._started(_Replica(primary))
            _wait(lambda: _info(replica)["master_link_status"] == "up", "the replica follows")
            sentinel = self._started(_Sentinel(primary))
            self._primary, self._replica, self.port = primary, replica, sentinel.port
            _wait(lambda: int(self._watched()["num-slaves"]) == 1, "the Sentinel knows the replica")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all three."""
        for server in reversed(self._servers):
            server.close()
        self._servers.clear()

    @property
    def url(self) -> str:
        """Where the Sentinel is, and what it calls the primary."""
        return f"sentinel://127.0.0.1:{self.port}/{WATCHED}"

    @property
    def primary_url(self) -> str:
        """The server that takes changes now."""
        return f"redis://127.0.0.1:{self._watched()['port']}/0"

    def kill_primary(self) -> None:
        """Its replica becomes the primary some seconds later."""
        self._primary.kill()

    def demote_primary(self) -> None:
        """Its replica becomes the primary, and it the replica, though nothing is wrong with it."""

        def is_asked() -> bool:
            # The Sentinel takes a moment to know its replica well enough.
            with redis.Redis(port=self.port) as client, contextlib.suppress(redis.ResponseError):
                client.sentinel_failover(WATCHED)
                return True
            return False

        _wait(is_asked, "the Sentinel finds a replica to promote")

    def has_failed_over(self) -> bool:
        """Whether the former replica is the primary, and the Sentinel says so."""
        return int(self._watched()["port"]) == self._replica.port and _info(self._replica)["role"] == "master"

    def _watched(self) -> dict[str, str]:
        with redis.Redis(port=self.port, decode_responses=True) as client:
            reply: dict[str, str] = client.sentinel_master(WATCHED)  # type: ignore[assignment]  # not a coroutine here
            return reply

    def _started(self, server: RedisServer) -> RedisServer:
        server.__enter__()
        self._servers.append(server)
        return server


def make_certificates(authority: Path, certificate: Path, key: Path) -> None:
    """Write an authority's certificate, and a server's for 127.0.0.1 with its key."""
    signer = ec.generate_private_key(ec.SECP256R1())
    own = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("an authority of the tests")
    authority.write_bytes(_pem(_builder(authority_name, authority_name, signer, is_authority=True), signer))
    server = _builder(_name("127.0.0.1"), authority_name, own, is_authority=False).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
    )
    server = server.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    certificate.write_bytes(_pem(server, signer))
    key.touch(mode=0o600)
    key.write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 and newer ask for it.
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(builder: x509.CertificateBuilder, signer: ec.EllipticCurvePrivateKey) -> bytes:
    return builder.sign(signer, SHA256()).public_bytes(serialization.Encoding.PEM)


def _info(server: RedisServer) -> dict[str, str]:
    with redis.Redis.from_url(server.url) as client:
        reply: dict[str, str] = client.info("replication")  # type: ignore[assignment]  # as above
        return reply


def _wait(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_PATIENCE_S:.0f} s: {what}")
        time.sleep(0.02)
