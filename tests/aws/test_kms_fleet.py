"""Several processes that share a keyset: how often they ask KMS. `make bench` does the same at full size."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from encrypted_sessions_tests.documents import ROOT

BENCH = ROOT / "tests" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark as a module, which leaves nothing behind."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield loaded(BENCH / "kms.py")
    for name in set(sys.modules) - before:
        if Path(str(getattr(sys.modules[name], "__file__", ""))).parent == BENCH:
            del sys.modules[name]


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_kms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("sessions", "processes"), [(8, 2), pytest.param(80, 4, marks=pytest.mark.soak)], ids=["few sessions", "many"]
)
def test_one_unwrap_for_each_process_and_key_however_many_sessions(bench, sessions: int, processes: int):
    report = bench.run_fleet(sessions=sessions, turns=10, processes=processes)
    assert report.operations == sessions * 10 * 4
    assert report.calls == {("Decrypt", "k1"): processes, ("Decrypt", "k2"): processes}
