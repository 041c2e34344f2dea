"""The outage demo runs, holds what it claims, and leaves nothing behind; its server and provider; the picture."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from encrypted_sessions_tests.documents import ROOT
from encrypted_sessions_tests.outage_demo import __main__ as demo_outage
from encrypted_sessions_tests.outage_demo.__main__ import main
from encrypted_sessions_tests.outage_demo.observations import POLICY, Outage, Turn
from encrypted_sessions_tests.outage_demo.provider import HttpKeyProvider
from encrypted_sessions_tests.outage_demo.server import KeyServer
from encrypted_sessions_tests.outage_demo.story import show
from keyproviders import CachePolicy, KeyAccessDeniedError, KeyProvider, KeyUnavailableError
from keyproviders.testing import KeyProviderConformance

MODULE = "encrypted_sessions_tests.outage_demo"


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", MODULE],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def server_of(line: str) -> int:
    """The process id in the line that says that the server runs."""
    return int(line.rstrip().rpartition(" ")[2])


@pytest.mark.long
@pytest.mark.soak
def test_no_turn_fails_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lines: list[str] = []
    seen = show(lines.append)
    assert seen.failed == 0
    assert len(seen.turns_within) > 10
    happened = [line.split("  ", 2)[-1].strip() for line in lines if " s  " in line]
    for act in ("stopped (SIGSTOP)", "continued (SIGCONT)", "killed (SIGKILL)", "started again"):
        assert any(act in line for line in happened), lines
    assert lines[-1].startswith("Turns within the bounds: ")
    assert lines[-1].endswith(" Failed turns: 0.")
    assert "shortened" in "".join(lines)
    assert seen.write_error.startswith("KeyUnavailableError: the key server on port")
    assert "too long ago to write" in seen.write_error
    assert seen.read_error.startswith("KeyUnavailableError: ")
    assert seen.read_while_not_writing > 0
    assert seen.back_after_s is not None
    pids = [server_of(line) for line in lines if "process" in line and "key server" in line and " s  " in line]
    assert len(pids) == 2
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("turn_failed", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_says_whether_a_turn_failed(
    turn_failed: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pretend(say: Callable[[str], None]) -> Outage:
        say("a line")
        return Outage([Turn(1.0, 0.1, "an error" if turn_failed else None)], write_ended_s=10.0)

    monkeypatch.setattr(demo_outage, "show", pretend)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main() == code
    assert capsys.readouterr().out == "a line\n"


def test_an_interrupted_demo_takes_its_server_along(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "key server  runs" in line:
                pid = server_of(line)
            if "stopped (SIGSTOP)" in line:
                break
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (3, "Interrupted.\n")
    assert not psutil.pid_exists(pid)
    assert list(tmp_path.iterdir()) == []


def test_a_turn_that_failed_within_the_bounds_counts_and_one_beyond_does_not() -> None:
    seen = Outage(write_ended_s=10.0)
    seen.turns = [Turn(1.0, 0.1, None), Turn(2.0, 8.0, "KeyUnavailableError"), Turn(11.0, 1.0, "KeyUnavailableError")]
    assert len(seen.turns_within) == 2
    assert seen.failed == 1


def test_the_shortened_times_of_writing_are_the_default_ones_by_a_hundred() -> None:
    default = CachePolicy()
    for name in ("fresh_s", "stale_write_s", "denied_grace_s"):
        assert getattr(POLICY, name) * 100 == getattr(default, name)


# -- The server and its provider -------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


class TestItsProvider(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _with(self, server: KeyServer) -> None:
        self.server = server

    def make_provider(self) -> KeyProvider:
        return self.server.provider()


def test_a_server_that_was_killed_comes_back_with_the_same_key() -> None:
    with KeyServer() as server:
        provider = server.provider()
        before = provider.active()
        server.kill()
        with pytest.raises(KeyUnavailableError, match="did not answer"):
            provider.active()
        server.start()
        assert provider.active() == before


def test_a_server_that_was_stopped_answers_nothing_until_it_goes_on() -> None:
    with KeyServer() as server:
        server.stop()
        with pytest.raises(KeyUnavailableError, match="TimeoutError"):
            server.provider().active()
        server.go_on()
        assert server.provider().active().name == "demo"


def test_who_does_not_know_the_token_gets_no_key(server: KeyServer) -> None:
    with pytest.raises(KeyAccessDeniedError):
        HttpKeyProvider(server.provider()._port, "a guess").active()


def test_a_server_ends_with_its_parent() -> None:
    program = (
        "import os, signal; from encrypted_sessions_tests.outage_demo.server import KeyServer\n"
        "print(KeyServer().pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    server = int(done.stdout)
    until = time.monotonic() + 60
    while psutil.pid_exists(server) and psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the server did not end"
        time.sleep(0.05)


# -- The picture of docs/when-the-key-server-is-down.md -------------------------------------------


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """tests/bench/outage.py, which measures and draws."""
    spec = importlib.util.spec_from_file_location("outage_bench", ROOT / "tests" / "bench" / "outage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def measured() -> Any:
    return json.loads((ROOT / "docs" / "key-server-outage.json").read_text(encoding="utf-8"))


def test_the_picture_is_drawn_from_what_was_measured(bench: ModuleType, measured: Any) -> None:
    assert (ROOT / "docs" / "key-server-outage.svg").read_text(encoding="utf-8") == bench.picture(measured)


def test_what_was_measured_is_what_the_default_policy_says(measured: Any) -> None:
    policy = CachePolicy()
    assert measured["policy"] == {name: getattr(policy, name) for name in policy.__slots__}
    (ended,) = [change for change in measured["real"]["can_write"][1:] if not change["can_write"]]
    assert abs(ended["last_healthy_s"] - policy.stale_write_s) <= 1
    assert abs(measured["accelerated"]["write_ended_s"] - policy.stale_write_s) <= 1
    assert abs(measured["accelerated"]["read_ended_s"] - policy.stale_read_s) <= 1
    assert sum(failed for _, _, failed, _ in measured["real"]["reads"]) == 0


def test_the_page_tells_the_numbers_that_were_measured(measured: Any) -> None:
    page = (ROOT / "docs" / "when-the-key-server-is-down.md").read_text(encoding="utf-8")
    stopped = measured["real"]["acts"][0]["at_s"]
    within = [ten for ten in measured["real"]["writes"] if ten[0] < 900]
    beyond = [ten for ten in measured["real"]["writes"] if ten[0] >= 900]
    assert sum(ten[2] for ten in within) == 0
    assert f"none of {sum(ten[1] for ten in within)} writes failed" in page
    assert f"the slowest took {max(ten[3] for ten in within if ten[0] >= stopped - 10):.0f} ms" in page
    assert f"{sum(ten[2] for ten in beyond)} in two minutes" in page
    assert "![" in page
    assert "](key-server-outage.svg)" in page


async def test_a_short_measurement_has_the_parts_of_a_long_one(
    bench: ModuleType, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("STOPPED_S", 0.2), ("KILLED_S", 0.4), ("STARTED_S", 0.6), ("END_S", 1.5)):
        monkeypatch.setattr(bench, name, seconds)
    short = bench.condensed(await bench.real_part())
    assert short.keys() == measured["real"].keys()
    assert [act["what"] for act in short["acts"]] == [act["what"] for act in measured["real"]["acts"]]
    assert sum(count for _, count, _, _ in short["writes"]) >= 1
    assert short["can_write"][-1]["can_write"] is True
