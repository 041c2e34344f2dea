"""The Makefile tells of all that it can do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    told = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make ([a-z-]+) +\S", told, re.MULTILINE)) == set(phony.replace("\\", "").split())


def test_everything_is_installed_by_one_recipe_and_nothing_past_the_lock():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = re.findall(r"^\t.*\$\(PIP\) (?:\$\(INSTALL\)|download).*$", makefile, re.MULTILINE)
    assert len(recipes) > 3
    for recipe in recipes:
        # What a lock says, or a wheel that was just built.
        assert "$(LOCKED)" in recipe or "--no-deps --no-index" in recipe
