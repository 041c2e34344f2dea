"""Runbooks of the documents: their lines, and a shell to run them in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.documents import blocks


def block_under(page: Path, heading: str, language: str = "sh") -> str:
    """The first block of a language under a heading."""
    lines = page.read_text(encoding="utf-8").splitlines()
    at = lines.index(f"## {heading}") + 1
    return next(block.text for block in blocks(page, language) if block.line > at)


class Shell:
    """A shell in a folder, with the command at hand."""

    def __init__(self, folder: Path, *programs: str, answers: str = "", **environment: str) -> None:
        self.folder = folder
        self._answers = answers
        command = folder / "bin" / "encrypted-sessions"
        command.parent.mkdir()
        command.write_text(warm_programs.script())
        command.chmod(0o700)
        path = os.pathsep.join((str(command.parent), *programs, os.environ["PATH"]))
        self._environment = {**os.environ, "PATH": path, **environment}

    def ended(self, script: str) -> subprocess.CompletedProcess[str]:
        """How a script ends, well or not."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._environment,
            input=self._answers,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def run(self, script: str) -> str:
        """What a script prints, on one line. It must end well."""
        done = self.ended(script)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())
