"""Every Python example of the documents runs as it stands.

The blocks of a document run in order, in one namespace and one event loop, with `await` at the top
level as in a notebook. An empty folder is the working directory, `SESSION_KEYS` holds a key, and
`agent` is an agent whose model answers without a network. A `text` block right after a Python block
is what that prints, `...` standing for anything.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agents
import pytest
from agents.testing import ScriptedModel, assistant_message

from encrypted_sessions import Key, KeyRing
from encrypted_sessions_tests.documents import ROOT, Block, blocks, documents

WITH_EXAMPLES = [path for path in documents() if blocks(path, "python")]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that is not running, so that an example may also call asyncio.run."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the SQLite sessions that an example leaves open, as the end of its process would."""
    opened: list[agents.SQLiteSession] = []
    first = agents.SQLiteSession.__init__

    def noted(self: agents.SQLiteSession, *args: Any, **kwargs: Any) -> None:
        first(self, *args, **kwargs)
        opened.append(self)

    monkeypatch.setattr(agents.SQLiteSession, "__init__", noted)
    yield
    for store in opened:
        store.close()


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the rings too: one that goes on would complain of its variable in the log of another test."""
    opened: list[KeyRing] = []
    first = KeyRing.__init__

    def noted(self: KeyRing, *args: Any, **kwargs: Any) -> None:
        first(self, *args, **kwargs)
        opened.append(self)

    monkeypatch.setattr(KeyRing, "__init__", noted)
    yield
    for ring in opened:
        ring.close()


@pytest.mark.usefixtures("stores", "rings")
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_document_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_KEYS", Key.generate().reveal_base64())
    answers = [[assistant_message("It is on its way.")]] * 20
    namespace: dict[str, Any] = {
        "__name__": "example",
        "agent": agents.Agent(name="helper", model=ScriptedModel(answers)),
    }
    for block in blocks(path, "python"):
        printed = run(path, block, namespace, loop)
        if block.output is not None:
            matches = doctest.OutputChecker().check_output(block.output, printed, doctest.ELLIPSIS)
            assert matches, f"{path.name}, line {block.line} prints:\n{printed}\nand not:\n{block.output}"


def run(path: Path, block: Block, namespace: dict[str, Any], loop: asyncio.AbstractEventLoop) -> str:
    """Run one block and return what it prints. Line numbers of errors are those of the document."""
    text = "\n" * (block.line - 1) + block.text
    name = str(path.relative_to(ROOT))
    code = compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = eval(code, namespace)  # noqa: S307 - the project's own examples
        if inspect.iscoroutine(result):
            loop.run_until_complete(result)
    return printed.getvalue()


def test_the_readme_and_the_pages_have_examples() -> None:
    names = {path.name for path in WITH_EXAMPLES}
    assert names >= {"README.md", "quick-start.md", "how-it-works.md", "keys.md", "moving-over.md"}
