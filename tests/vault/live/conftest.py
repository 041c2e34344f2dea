"""A real OpenBao: what each test has in it of its own."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from encrypted_sessions_tests.loopback_http import LoopbackServer
from encrypted_sessions_tests.openbao import (
    AuditedOpenBaoServer,
    OpenBaoServer,
    StoredOpenBaoServer,
    make_certificate,
)
from keyproviders import Key


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("live_vault")


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

    def __init__(self, server: OpenBaoServer) -> None:
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

    def __init__(self, server: OpenBaoServer) -> None:
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


@pytest.fixture
def place(_openbao: OpenBaoServer) -> Iterator[Place]:
    """A secret of this test's own in the dev server, still unwritten."""
    made = Place(_openbao)
    yield made
    made.close()


@pytest.fixture
def stored_place(_private_openbao: StoredOpenBaoServer) -> Iterator[Place]:
    """The same in a server with TLS and storage, unsealed, which is this worker's own. It runs again after the test."""
    _private_openbao.restore()
    made = Place(_private_openbao)
    yield made
    made.close()
    _private_openbao.restore()


@pytest.fixture
def transit(_openbao: OpenBaoServer) -> Iterator[Transit]:
    """A Transit mount of this test's own in the dev server."""
    made = Transit(_openbao)
    yield made
    made.close()


@pytest.fixture
def logged_transit(_audited_openbao: AuditedOpenBaoServer) -> Iterator[Transit]:
    """The same in the server that has an audit device."""
    made = Transit(_audited_openbao)
    yield made
    made.close()


@pytest.fixture
def stored_transit(_private_openbao: StoredOpenBaoServer) -> Iterator[Transit]:
    """The same in a server with TLS and storage, unsealed, which is this worker's own. It runs again after the test."""
    _private_openbao.restore()
    made = Transit(_private_openbao)
    yield made
    made.close()
    _private_openbao.restore()


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
