"""The page for auditors: thirty answers with their places and tests, and what else it says of the source."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from encrypted_sessions import Key
from encrypted_sessions.core.cipher import SessionCipher
from encrypted_sessions_tests.documents import ROOT, anchors, code_words, file_of, rows, section
from encrypted_sessions_tests.runbooks import Shell, block_under
from encrypted_sessions_tests.sealed_rows import Sealer
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import fill

PAGE = ROOT / "docs" / "compliance.md"
QUESTIONS = rows(section(PAGE, "Thirty questions"))
DUTIES = {"library", "operator", "both"}

_TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
_LINK = re.compile(r"\]\(([^)#]*)#([^)]+)\)")

#: What a module uses for cryptography, or for what nobody shall foresee.
_USED = re.compile(
    r"^ *(?:from|import) (?:cryptography|hashlib|hmac|random|secrets|ssl|uuid)\b|\burandom\(", re.MULTILINE
)


@cache
def names_in(path: Path) -> set[str]:
    """The tests of a file, which is read and not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_thirty_questions_in_order() -> None:
    assert [row[0] for row in QUESTIONS] == [str(number) for number in range(1, 31)]
    numbered = re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(numbered) == 30, "no row of another table begins with a number alone"


@pytest.mark.parametrize("row", QUESTIONS, ids=lambda row: row[0])
def test_each_answer_has_two_sentences_a_place_a_test_and_whose_duty_it_is(row: list[str]) -> None:
    _, question, answer, duty, place, shown_by = row
    assert question.endswith("?")
    assert len(re.findall(r"\.(?= |$)", answer)) == 2, answer
    targets = _LINK.findall(place)
    assert targets
    for file, anchor in targets:
        assert anchor in anchors((PAGE.parent / file).resolve() if file else PAGE), anchor
    tests = code_words(shown_by)
    assert tests
    for test in tests:
        found = _TEST.fullmatch(test)
        assert found, test
        assert found[2] in names_in(ROOT / found[1]), test
    assert duty in DUTIES


def test_each_flow_that_names_tests_names_ones_that_exist() -> None:
    flows = rows(section(PAGE, "Data flow and trust boundaries"))
    picture = (PAGE.parent / "pictures" / "data-flow.svg").read_text(encoding="utf-8")
    assert [flow[0].strip("()") for flow in flows] == sorted(re.findall(r'class="digit"[^>]*>(\d+)<', picture))
    named = [test for flow in flows for test in _TEST.findall(flow[-1])]
    assert len(named) > len(flows) // 2
    assert all(name in names_in(ROOT / file) for file, name in named)


def test_each_question_stands_under_a_standard_and_each_requirement_has_its_questions() -> None:
    asked = set[int]()
    for row in rows(section(PAGE, "Standards")):
        (numbers,) = (cell for cell in row[1:] if re.fullmatch(r"\d+(, \d+)*", cell))
        asked |= {int(number) for number in numbers.split(", ")}
    assert asked == set(range(1, 31))
    for standard in ("OWASP ASVS 5.0", "European law"):
        assert all(DUTIES & set(row) for row in rows(section(PAGE, standard))), standard


def _users(folder: str, shown: str) -> set[str]:
    root = file_of(folder)
    return {
        shown + path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if _USED.search(path.read_text(encoding="utf-8"))
    }


def test_the_inventory_names_every_module_that_uses_cryptography_or_randomness() -> None:
    named = [name for row in rows(section(PAGE, "Inventory of cryptography")) for name in code_words(row[0])]
    assert len(named) == len(set(named))
    assert set(named) == _users("src/encrypted_sessions/", "") | _users("keyproviders/", "keyproviders/")


def test_what_has_to_be_unpredictable_comes_from_os_urandom(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: asked.append(count) or real(count))
    key = Key.generate()
    for suite in (1, 2):
        SessionCipher(key.secret, "one", key.kid, suite=suite).seal({"a": 1}, 0)
    assert asked == [32, 16, 12], "a key, the vector of suite 1, the nonce of suite 2"


def test_the_times_for_weaknesses_are_those_of_the_page_on_support() -> None:
    (answer,) = (row[2] for row in QUESTIONS if row[0] == "30")
    promised = set(re.findall(r"\d+", section(ROOT / "docs" / "support.md", "Weaknesses")))
    promised |= set(re.findall(r"(\d+) months", section(ROOT / "docs" / "support.md", "Versions")))
    assert set(re.findall(r"\d+", answer)) == {"3", "10", "14", "12"} <= promised


class Drill:
    """A store and keys, restored where no service runs."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new = Sealer(), Sealer()
        self.old.active = Key.generate("2026-05")
        for one in (self.old, self.new):
            one.ring.close()
        restored = folder / "drill"
        restored.mkdir()
        place = StoreLocation("sqlite", str(restored / "agents.db"), "drill")
        asyncio.run(fill(place, {self.old.session_id: [self.old.ok("one"), self.new.ok("two")]}))
        self._keys = restored / "session-keys"
        self._shell = Shell(folder)
        self.script = block_under(PAGE, "Recovery of keys, and a drill")

    def ended(self, *keys: Key) -> subprocess.CompletedProcess[str]:
        self._keys.touch(mode=0o600)
        self._keys.write_text("\n".join(f"{key.name}={key.reveal_base64()}" for key in keys))
        return self._shell.ended(self.script)


def test_the_drill_opens_a_restored_store_with_restored_keys_alone(tmp_path: Path) -> None:
    drill = Drill(tmp_path)
    assert len(drill.script.splitlines()) == 5
    done = drill.ended(drill.new.active, drill.old.active)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "drill.json").read_bytes()
    assert json.loads(report)["found"] == {"ok": 2}
    assert hashlib.sha256(report).hexdigest() in (tmp_path / "drills.txt").read_text()


def test_the_drill_fails_where_the_copy_lacks_a_key(tmp_path: Path) -> None:
    drill = Drill(tmp_path)
    done = drill.ended(drill.new.active)
    assert done.returncode == 1, done.stdout + done.stderr
    assert drill.old.active.kid in done.stdout
    assert not (tmp_path / "drills.txt").exists()
