"""Records what a real server answers, as data that the other tests play again.

Run it with `bao` or `vault` on PATH: python tests/vault/record.py. It starts a server of its own, asks it through
hvac, and writes tests/vault/data/live.json in the form of recorded.json: each scenario with its exchanges and with
what hvac made of them. Tokens, credentials, times and random ids are replaced.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hvac

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

_spec = importlib.util.spec_from_file_location("live_servers", HERE / "live" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
live = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(live)

TARGET = HERE / "data" / "live.json"

MOMENT = "2026-11-23T01:52:43.018108633Z"
ISSUED = "s.ISSUEDTOKEN0000000000000"
PATH = "agents/session-key"
# Keys that are as public as this file.
KEYS = ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="]
KEYS += ["AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=", "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ="]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What Transit wraps with is random; the version and the length stay.
_CIPHERTEXT = re.compile(r"(vault:v\d+:)[A-Za-z0-9+/]{80}")
SEALED = "c2VhbGVk" * 10
_KEPT_HEADERS = ("Content-Type", "Retry-After", "X-Vault-Namespace")
_SECRETS = {"jwt": "JWT", "secret_id": "SECRET_ID", "client_token": ISSUED, "accessor": "ACCESSOR", "id": "TOKEN"}


def cleaned(value: Any, name: str = "") -> Any:
    """Without anything that a second recording would have otherwise."""
    if isinstance(value, dict):
        return {inner: cleaned(one, inner) for inner, one in value.items()}
    if isinstance(value, list):
        return [cleaned(one) for one in value]
    if isinstance(value, str):
        if value and name in _SECRETS:
            return _SECRETS[name]
        if value and name == "plaintext":
            return KEYS[0]
        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8200", _TIME.sub(MOMENT, value))
        text = _CIPHERTEXT.sub(rf"\g<1>{SEALED}", text)
        return _UUID.sub("00000000-0000-0000-0000-000000000000", text)
    if isinstance(value, int) and name in {"creation_time", "server_time_utc", "ttl"}:
        return 3600 if name == "ttl" else 1795398763
    return value


class Recorder:
    """Asks one server and keeps what was said."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.scenarios: list[dict[str, Any]] = []

    @contextmanager
    def _watched(self, client: Any) -> Iterator[list[dict[str, Any]]]:
        exchanges: list[dict[str, Any]] = []

        def keep(response: Any, **_: Any) -> None:
            request = response.request
            sent = {name: request.headers[name] for name in request.headers if name.startswith("X-Vault-")}
            if "X-Vault-Token" in sent:
                sent["X-Vault-Token"] = "TOKEN"
            try:
                body = response.json()
            except ValueError:
                body = None
            headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
            exchanges.append(
                {
                    "request": {
                        "method": request.method,
                        "path": request.path_url,
                        "headers": sent,
                        "body": cleaned(json.loads(request.body)) if request.body else None,
                    },
                    "response": {"status": response.status_code, "headers": headers, "body": cleaned(body)},
                }
            )

        client.adapter.session.hooks["response"].append(keep)
        yield exchanges

    def record(self, name: str, shows: str, ask: Callable[[Any], Any], token: str = "", **given: Any) -> Any:
        """One scenario: what `ask` sends with this token, and what hvac makes of the answer."""
        client = hvac.Client(url=self.server.url, token=token, verify=self.server.verify, **given)
        made: dict[str, Any]
        with self._watched(client) as exchanges:
            answer = None
            try:
                answer = ask(client)
                made = {"returned": cleaned(answer) if isinstance(answer, dict) else f"HTTP {answer.status_code}"}
            except hvac.exceptions.VaultError as error:
                kinds = [kind.__name__ for kind in type(error).__mro__[1:-1]]
                made = {"raised": f"{type(error).__module__}.{type(error).__name__}", "text": cleaned(str(error))}
                made["mro"] = kinds
        client.adapter.close()
        self.scenarios.append({"name": name, "shows": shows, "hvac": made, "exchanges": exchanges})
        return answer


def read(path: str = PATH, version: int | None = None, mount: str = "secret") -> Callable[[Any], Any]:
    query = "" if version is None else f"?version={version}"
    return lambda client: client.adapter.get(f"/v1/{mount}/data/{path}{query}")


def metadata(path: str = f"metadata/{PATH}") -> Callable[[Any], Any]:
    return lambda client: client.adapter.get(f"/v1/secret/{path}")


def post(path: str, **body: Any) -> Callable[[Any], Any]:
    return lambda client: client.adapter.post(f"/v1/{path}", json=body)


def versions(to: Recorder, root: Any) -> None:
    kv, token = root.secrets.kv.v2, to.server.root_token
    for key in KEYS:
        kv.create_or_update_secret(PATH, {"key": key})
    to.record("kv2-read-current", "the newest version, with its metadata", read(), token)
    to.record("kv2-metadata", "what the secret says of its versions", metadata(), token)
    to.record("kv2-mount-config", "what its mount says of all secrets", metadata("config"), token)
    to.record("kv2-read-version", "an older version by number", read(version=2), token)
    kv.delete_secret_versions(PATH, [2])
    to.record("kv2-version-deleted", "a version that was soft-deleted", read(version=2), token)
    kv.destroy_secret_versions(PATH, [1])
    to.record("kv2-version-destroyed", "a version that was destroyed", read(version=1), token)
    to.record("kv2-version-never-existed", "a version number that never was", read(version=99), token)
    kv.delete_secret_versions(PATH, [4])
    to.record("kv2-newest-deleted", "read without a version when the newest is soft-deleted", read(), token)
    kv.undelete_secret_versions(PATH, [2, 4])
    to.record("kv2-undeleted", "an undeleted version opens again", read(version=2), token)
    to.record("kv2-missing-path", "no such secret", read("agents/none"), token)
    to.record("kv2-missing-mount", "no such mount", read(mount="nowhere"), token)
    for key in KEYS:
        kv.create_or_update_secret("agents/short", {"key": key})
        kv.update_metadata("agents/short", max_versions=2)
    to.record("kv2-version-fell-out", "a version beyond max_versions", read("agents/short", 1), token)
    root.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
    to.record("kv1-read-as-v2", "the version 2 API against a version 1 mount", read(mount="old"), token)
    look = "/v1/sys/internal/ui/mounts/{}/agents/session-key"
    to.record("mount-info-v1", "what the mount says of itself", lambda one: one.adapter.get(look.format("old")), token)
    to.record("mount-info-v2", "the same, version 2", lambda one: one.adapter.get(look.format("secret")), token)
    to.record("no-such-namespace", "a namespace that does not exist", read(), token, namespace="nope")


def tokens(to: Recorder, root: Any) -> None:
    root.sys.create_or_update_policy("reader", f'path "secret/data/{PATH}" {{ capabilities = ["read"] }}')

    def token(**given: Any) -> str:
        return str(root.auth.token.create(policies=["reader"], **given)["auth"]["client_token"])

    renew = post("auth/token/renew-self")
    to.record("token-bad", "a token that does not exist", read(), "s.no-such-token")
    to.record("token-none", "no token at all", read())
    reader = token(ttl="1h")
    to.record("policy-allows", "exactly read on the one path", read(), reader)
    to.record("policy-version-by-query", "the same policy with ?version=", read(version=4), reader)
    to.record("policy-denies-metadata", "the metadata of the very secret", metadata(), reader)
    to.record("policy-denies-path", "another path", read("agents/short"), reader)
    look = "/v1/auth/token/lookup-self"
    to.record("token-lookup-self", "a token looks itself up", lambda one: one.adapter.get(look), reader)
    to.record("token-renew-self", "a renewable token", renew, reader)
    to.record("token-renew-not-renewable", "one that is not renewable", renew, token(ttl="1h", renewable=False))
    to.record("token-batch-renew", "a batch token cannot be renewed", renew, token(ttl="1h", type="batch"))
    root.auth.token.revoke(reader)
    to.record("token-revoked", "reading with a revoked token", read(), reader)
    to.record("token-renew-expired", "renewing a token that is gone", renew, reader)
    once = token(ttl="1h", num_uses=1)
    hvac.Client(url=to.server.url, token=once).auth.token.lookup_self()
    to.record("token-uses-spent", "a token whose uses are spent", read(), once)


def logins(to: Recorder, root: Any, issuer: Any, reviewer: Any, some_ca: str) -> None:
    root.sys.enable_auth_method("approle")
    root.auth.approle.create_or_update_approle("agents", token_policies=["reader"], token_ttl="1h")
    role_id = root.auth.approle.read_role_id("agents")["data"]["role_id"]
    secret_id = root.auth.approle.generate_secret_id("agents")["data"]["secret_id"]
    login = "auth/approle/login"
    to.record("approle-login", "role id and secret id", post(login, role_id=role_id, secret_id=secret_id))
    to.record("approle-bad-secret", "a wrong secret id", post(login, role_id=role_id, secret_id="wrong"))
    to.record("approle-bad-role", "a wrong role id", post(login, role_id="none", secret_id=secret_id))
    to.record("approle-not-mounted", "no such login", post("auth/approle-two/login", role_id="r", secret_id="s"))

    root.sys.enable_auth_method("jwt")
    root.auth.jwt.configure(jwt_validation_pubkeys=[issuer.public_key])
    bound = {"bound_audiences": ["vault"], "user_claim": "sub", "token_policies": ["reader"]}
    root.auth.jwt.create_role(name="agents", role_type="jwt", allowed_redirect_uris=[], **bound)
    login = "auth/jwt/login"
    to.record("jwt-login", "a valid token", post(login, role="agents", jwt=issuer.token(sub="a")))
    to.record("jwt-expired", "an expired token", post(login, role="agents", jwt=issuer.token(sub="a", life_s=-600)))
    other = issuer.token(sub="a", aud=["others"])
    to.record("jwt-bad-audience", "another audience", post(login, role="agents", jwt=other))
    to.record("jwt-no-role", "no such role", post(login, role="none", jwt=issuer.token(sub="a")))

    root.sys.enable_auth_method("kubernetes")
    root.auth.kubernetes.configure(
        kubernetes_host=reviewer.url,
        token_reviewer_jwt=issuer.service_account("reviewer"),
        disable_local_ca_jwt=True,
        kubernetes_ca_cert=some_ca,
    )
    root.auth.kubernetes.create_role(
        name="agents",
        bound_service_account_names=["agents"],
        bound_service_account_namespaces=["prod"],
        policies=["reader"],
    )
    login, right, wrong = "auth/kubernetes/login", issuer.service_account("agents"), issuer.service_account("others")
    to.record("kubernetes-login", "a service account that is named", post(login, role="agents", jwt=right))
    to.record("kubernetes-not-authorized", "one that is not", post(login, role="agents", jwt=wrong))
    to.record("kubernetes-no-role", "no such role", post(login, role="none", jwt=right))


def transit(to: Recorder, root: Any) -> None:
    root.sys.enable_secrets_engine("transit")
    root.adapter.post("/v1/transit/keys/agents", json={"derived": True})
    root.adapter.post("/v1/transit/keys/plain", json={"derived": True})
    token, bound, other = to.server.root_token, "YWdlbnRzL2sx", "YWdlbnRzL2sy"
    datakey, decrypt = "transit/datakey/plaintext", "transit/decrypt"
    made = to.record("transit-datakey", "a new key", post(f"{datakey}/agents", context=bound, bits=256), token)
    sealed = made["data"]["ciphertext"]

    def opening(name: str, shows: str, key: str = "agents", **body: Any) -> None:
        to.record(name, shows, post(f"{decrypt}/{key}", **{"ciphertext": sealed, "context": bound, **body}), token)

    opening("transit-decrypt", "the right context")
    opening("transit-wrong-context", "another context", context=other)
    to.record("transit-no-context", "no context", post(f"{decrypt}/agents", ciphertext=sealed), token)
    damaged = sealed[:40] + ("A" if sealed[40] != "A" else "B") + sealed[41:]
    opening("transit-damaged", "a changed byte", ciphertext=damaged)
    opening("transit-no-prefix", "no vault:vN: before it", ciphertext=SEALED)
    opening("transit-other-key", "another key", "plain")
    opening("transit-missing-key", "no such key", "none")
    to.record("transit-missing-key-datakey", "no such key", post(f"{datakey}/none", bits=256), token)
    opening("transit-future-version", "a version that never was", ciphertext=sealed.replace(":v1:", ":v99:"))
    root.adapter.post("/v1/transit/keys/agents/rotate")
    again = post("transit/rewrap/agents", ciphertext=sealed, context=bound)
    newer = to.record("transit-rewrap", "from one version to the next", again, token)["data"]["ciphertext"]
    root.adapter.post("/v1/transit/keys/agents/config", json={"min_decryption_version": 2})
    opening("transit-below-min-version", "a version below min_decryption_version")
    opening("transit-rewrapped-opens", "the newer one", ciphertext=newer)


def limits(to: Recorder, root: Any) -> None:
    quota = "/v1/sys/quotas/rate-limit/tight"
    root.adapter.post(quota, json={"path": "secret/", "rate": 1, "interval": "10s"})

    def twice(client: Any) -> Any:
        read()(client)
        return read()(client)

    to.record("rate-limited-no-header", "a rate-limit quota as it comes", twice, to.server.root_token)
    root.adapter.delete(quota)


def sealed(to: Recorder, root: Any) -> None:
    root.sys.seal()
    to.record("sealed-read", "a sealed server", read(), to.server.root_token)
    body = {"role_id": "r", "secret_id": "SECRET_ID"}
    to.record("sealed-login", "a login at a sealed server", post("auth/approle/login", **body))


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(live.VaultServer())
        reviewer = live.TokenReviewer()
        stack.callback(reviewer.close)
        root = server.client()
        stack.callback(root.adapter.close)
        recorder = Recorder(server)
        versions(recorder, root)
        tokens(recorder, root)
        logins(recorder, root, live.Issuer(), reviewer, live.make_certificate(folder)[0].read_text())
        transit(recorder, root)
        limits(recorder, root)
        sealed(recorder, root)
        said = subprocess.run([live.PROGRAM, "version"], capture_output=True, text=True, check=True).stdout
    data = {
        "server": said.strip().splitlines()[0],
        "client": f"hvac {version('hvac')}",
        "scenarios": recorder.scenarios,
    }
    TARGET.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"{len(recorder.scenarios)} scenarios are in {TARGET}")  # noqa: T201 - a script says what it did


if __name__ == "__main__":
    main()
