"""Every command that the documents show exists, with the options that they give it."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import typer.main

from encrypted_sessions.cli import application
from encrypted_sessions_tests.documents import ROOT, blocks, documents

# `encrypted-sessions keygen`, `encrypted-sessions demo --keys URL`; and a bare `encrypted-sessions --version`.
_COMMAND = re.compile(r"\bencrypted-sessions((?: +(?:--?[a-z][\w-]*|[a-z]+(?:-[a-z]+)*\b))+)")
_MAKE = re.compile(r"`make ([a-z-]+)|^make ([a-z-]+)", re.MULTILINE)
_EXTRAS = re.compile(r"encrypted-sessions\[([a-z,]+)\]")


def shown_in(path: Path) -> str:
    """What the document shows in code: its shell blocks, and the code in its sentences."""
    in_sentences = re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8"))
    return "\n".join([*(block.text for block in blocks(path, "sh")), *in_sentences])


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_exist(path: Path) -> None:
    command: Any = typer.main.get_command(application())
    for words in _COMMAND.findall(shown_in(path)):
        asked = command
        for name in (word for word in words.split() if not word.startswith("-")):
            if not hasattr(asked, "commands"):
                break  # an argument in plain letters
            asked = asked.commands.get(name)
            assert asked is not None, f"encrypted-sessions has no command {words.strip()}"
        known = {option for parameter in asked.params for option in parameter.opts} | {"--help"}
        assert {option for option in words.split() if option.startswith("-")} <= known, words


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_make_targets_of_a_document_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    shown = "\n".join([path.read_text(encoding="utf-8"), *(block.text for block in blocks(path, "sh"))])
    assert {first or second for first, second in _MAKE.findall(shown)} <= targets


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_extras_of_a_document_exist(path: Path) -> None:
    extras = set(metadata("encrypted-sessions").get_all("Provides-Extra") or [])
    for named in _EXTRAS.findall(path.read_text(encoding="utf-8")):
        assert set(named.split(",")) <= extras
