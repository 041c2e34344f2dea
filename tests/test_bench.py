"""What `make bench` runs can be imported and run: of its measurements this does the shortest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("agents")

# In one process, since each would import all that is measured.
_RUN = """
import contextlib, importlib, pathlib, sys
folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder))
import run
for module in folder.glob("*.py"):
    importlib.import_module(module.stem)
run._in_a_process_of_its_own = run._measure
for words in (["--help"], ["--quick", "--only", "single"]):
    sys.argv[1:] = words
    with contextlib.suppress(SystemExit):
        run.main()
"""


def test_every_measurement_is_imported_and_one_runs():
    folder = Path(__file__).parent / "bench"
    done = subprocess.run([sys.executable, "-c", _RUN, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fewer rounds and rows" in done.stdout
    assert "add_items of one" in done.stdout
