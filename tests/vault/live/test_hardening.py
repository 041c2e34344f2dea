"""The login that the operator's handbook hardens, typed as it stands there, at a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import ROOT, blocks
from keyproviders import KeyAccessDeniedError
from keyproviders.vault import VaultKvKeyProvider


def typed(script: str, place, **settings: str) -> str:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BAO_ADDR": place.server.url,
        "BAO_TOKEN": place.server.root_token,
        **settings,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_the_hardened_login_of_the_handbook_works_from_its_network_and_as_often_as_it_may(place, tmp_path: Path):
    (block,) = (one.text for one in blocks(ROOT / "docs" / "operators-handbook.md", "sh") if "-wrap-ttl" in one.text)
    assert block.count("10.20.0.0/16") == 2
    script = block.replace("10.20.0.0/16", "127.0.0.0/8").replace("/run/agents", str(tmp_path))
    script = script.replace("secret_id_num_uses=20", "secret_id_num_uses=2") + 'echo "$wrapped"'
    rule = f'path "secret/data/{place.path}" {{ capabilities = ["read"] }}'
    place.root.sys.create_or_update_policy("agents-session-key", rule)
    if "approle/" not in place.root.sys.list_auth_methods()["data"]:  # another test may have left it there
        place.root.sys.enable_auth_method("approle")
    try:
        key = place.write()
        wrapped = typed(script, place).splitlines()[-1]
        secret_id = tmp_path / "secret-id"
        assert secret_id.stat().st_mode & 0o777 == 0o600
        with pytest.raises(AssertionError, match="wrapping token is not valid"):
            typed("bao unwrap", place, BAO_TOKEN=wrapped)

        def provider() -> VaultKvKeyProvider:
            role_id = place.root.auth.approle.read_role_id("agents")["data"]["role_id"]
            return VaultKvKeyProvider(
                place.path,
                address=place.server.url,
                auth="approle",
                role_id=role_id,
                secret_id_file=str(secret_id),
            )

        for _ in range(2):
            assert provider().active() == key
        with pytest.raises(KeyAccessDeniedError):
            provider().active()
        typed(script.replace("127.0.0.0/8", "10.20.0.0/16"), place)
        with pytest.raises(KeyAccessDeniedError):
            provider().active()
    finally:
        place.root.sys.disable_auth_method("approle")
