"""Ctrl-C at any moment of a command, from its entry point on: exit code 3, and no traceback."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyproviders import Key

TIMEOUT_S = 120
MOMENTS = 12

# Says so when the entry point has begun, which nobody outside could see.
PROGRAM = """
import os, sys
from encrypted_sessions.cli import entry_point
make = entry_point.application
def application():
    os.write(1, b"begun\\n")
    return make()
entry_point.application = application
entry_point.main()
"""


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """The command, begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "KEYS_OF_THE_TEST": Key.generate().reveal_base64()},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_in_the_first_moment_ends_it_with_3_and_without_a_word(tmp_path: Path, number: signal.Signals):
    process = start(tmp_path, ["doctor", "env:KEYS_OF_THE_TEST"])
    process.send_signal(number)
    assert process.communicate(timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 3


@pytest.mark.parametrize("arguments", [["keygen"], ["doctor", "env:KEYS_OF_THE_TEST"]], ids=lambda given: given[0])
def test_ctrl_c_at_any_moment_ends_it_with_3_and_without_a_traceback(tmp_path: Path, arguments: list[str]):
    began = time.monotonic()
    process = start(tmp_path, arguments)
    whole, stderr = process.communicate(timeout=TIMEOUT_S)
    lasts_s = time.monotonic() - began
    assert process.returncode == 0, stderr
    for _ in range(MOMENTS):
        process = start(tmp_path, arguments)
        time.sleep(random.uniform(0, lasts_s))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        if process.returncode == 0:  # it had ended before
            assert (len(stdout), stderr) == (len(whole), "")
        else:
            assert process.returncode == 3, stderr
            assert stderr in {"", "Interrupted.\n"}
