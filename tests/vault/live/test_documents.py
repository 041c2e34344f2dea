"""The commands of the page, typed as they stand at a real server, print what the page says."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from encrypted_sessions_tests.documents import ROOT

PAGE = ROOT / "docs" / "vault.md"
FENCE = re.compile(r"^ *```(sh|console)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What comes after the service's own commands is for the administrator's terminal again.
ADMINISTRATOR = "export BAO_ADDR=http://127.0.0.1:8200 BAO_TOKEN=root\n"
NEXT = "==== the next block ===="


def typed(script: str, address: str, folder: Path) -> str:
    """What a shell prints that is given these commands, in an empty folder."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "error",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",  # else it warns of traces, where the SDK is installed as it is here
    }
    for name in ("PYTHONPATH", "LANG", "TMPDIR"):
        if name in os.environ:
            environment[name] = os.environ[name]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8200", address)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_leads_from_nothing_to_a_rotated_key(place, tmp_path: Path):
    script, wanted = "", []
    for language, text in FENCE.findall(PAGE.read_text(encoding="utf-8")):
        block = textwrap.dedent(text)
        if language == "console":
            wanted[-1] = block
        elif "pip install" not in block and "bao server" not in block:
            script += f"echo '{NEXT}'\n{block}"
            wanted.append("...")
        if "unset BAO_ADDR BAO_TOKEN" in block:
            script += ADMINISTRATOR
    printed = typed(script, place.server.url, tmp_path).split(f"{NEXT}\n")[1:]
    assert len(printed) == len(wanted) == 4
    for shown, meant in zip(printed, wanted, strict=True):
        wrapped = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(meant, shown, wrapped), shown
    assert place.root.secrets.kv.v2.read_secret_metadata("agents/session-key")["data"]["current_version"] == 2
    place.root.sys.disable_auth_method("approle")
    place.root.secrets.kv.v2.delete_metadata_and_all_versions("agents/session-key")


def test_the_commands_within_sentences_work_too(place, tmp_path: Path):
    for _ in range(3):
        place.write()
    commands = re.findall(r"`(bao kv [^`\n]* agents/session-key)`", PAGE.read_text(encoding="utf-8"))
    assert len(commands) == 3
    for command in commands:
        typed(ADMINISTRATOR + command.replace("agents/session-key", place.path), place.server.url, tmp_path)
    versions = place.root.secrets.kv.v2.read_secret_metadata(place.path)["data"]["versions"]
    assert versions["3"]["destroyed"]
