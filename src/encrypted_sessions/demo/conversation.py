"""`encrypted-sessions demo`: an encrypted conversation, stopped, started again, rotated, expired.

The command tells the story and checks what it tells. Every step is a process of its own
(`steps`), so that nothing is left over in memory: what a step knows, it has from the store.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import secrets
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from keyproviders import Key, KeyProviderError, KeyRing, ProviderConfigError, open_provider

from ..core.envelope import Envelope, parse_row
from .steps import CUT_OFF, CUT_OFF_CODE, KEYS_VARIABLE, SHORT_TTL_S, Settings
from .store import missing_extra, problem_with, shown, without_secrets

_STEP_TIMEOUT_S = 120
_INDENT = 3
_NARROWEST, _WIDEST = 40, 100


class DemoError(Exception):
    """The demo could not go on, in one sentence."""


class ClaimError(DemoError):
    """The demo looked at what it claims, and it is not so."""


class WrongUseError(DemoError):
    """An option that cannot be used as it is."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def run(keys: str | None, store: str | None) -> None:
    """Tell the story on stdout, with the keys and the store of these URLs or with its own.

    Raises WrongUseError for an option, ClaimError for a claim that does not hold, DemoError when a
    step fails.
    """
    # What goes wrong is told once, as an error.
    logging.getLogger("keyproviders").addHandler(logging.NullHandler())
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file may have characters that a pipe's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    if store is not None:
        _check_store(store)
    if find_spec("agents") is None:
        raise DemoError("the demo runs an agent and needs the Agents SDK: pip install 'encrypted-sessions[agents]'")
    given = None if keys is None else _active_of(keys)
    with tempfile.TemporaryDirectory(prefix="encrypted-sessions-demo-", ignore_cleanup_errors=True) as folder:
        settings = Settings(
            keys=f"env:{KEYS_VARIABLE}" if keys is None else keys,
            store=str(Path(folder, "demo.db")) if store is None else store,
            session_id=f"demo-{secrets.token_hex(4)}",
            folder=folder,
            started_in=str(Path.cwd()),
        )
        _Story(settings, given=given, own_store=store is None).tell()


def _check_store(store: str) -> None:
    problem = problem_with(store)
    if problem:
        raise WrongUseError("--store", f"{shown(store)!r} {problem}.")
    extra = missing_extra(store)
    if extra:
        raise DemoError(
            f"the store {shown(store)} needs a package that is not installed: pip install 'encrypted-sessions[{extra}]'"
        )


@dataclass(frozen=True)
class _GivenKeys:
    place: str
    kid: str


def _active_of(url: str) -> _GivenKeys:
    """The place of the user's keys and the active one's kid: asked now, so that the story does not break off."""
    try:
        provider = open_provider(url)
    except ProviderConfigError as error:
        raise WrongUseError("--keys or ENCRYPTED_SESSIONS_KEYS", f"{error}.") from None
    place = str(getattr(provider, "place", type(provider).__name__))
    ring = KeyRing(provider)
    try:
        return _GivenKeys(place, ring.active_sync().kid)
    except KeyProviderError as error:
        raise DemoError(f"no key came from {place}: {error}.") from None
    finally:
        ring.close()


@dataclass
class _Story:
    settings: Settings
    given: _GivenKeys | None
    own_store: bool
    console: Console = field(default_factory=lambda: Console(highlight=False))
    began: float = field(default_factory=time.monotonic)
    chapter: int = 0
    claims: int = 0
    #: The keys of the demo's own, the active one first. They leave this process by the environment.
    keys: list[Key] = field(default_factory=lambda: [Key.generate("first")], repr=False)

    def tell(self) -> None:
        """The whole story."""
        try:
            self._introduce()
            start = self._conversation()
            latest = self._another_process(start)
            if self.given is None:
                latest = self._rotation(latest)
            latest = self._expiry(latest)
            if self.given is None:
                self._wrong_key(latest)
            else:
                self._left_out()
            self._end()
        finally:
            self.keys.clear()

    # -- The chapters -----------------------------------------------------------------------

    def _introduce(self) -> None:
        self._line(f"encrypted-sessions {version('encrypted-sessions')}: a conversation under lock and key", "bold")
        self._wrapped("A real agent with a scripted model: it needs no API key and no network.")
        if self.own_store:
            self._line("Store: SQLite, in a temporary folder that is removed at the end.")
        else:
            self._line(f"Store: {shown(self.settings.store)}, session {self.settings.session_id}.")
        if self.given is None:
            self._line("Keys:  random, of the demo's own, gone at the end.")
        else:
            self._line(f"Keys:  {self.given.place}, of which {self.given.kid} is active.")

    def _conversation(self) -> dict[str, Any]:
        self._chapter("An agent holds a conversation")
        report = self._step("start")
        self._dialogue(report["turn"])
        rows: list[str] = report["rows"]
        self._line()
        self._say("Its last item, as the SDK's own session stores it:")
        self._quote_row(report["bare_row"])
        self._say("The same item in the store now:")
        self._quote_row(rows[-1])
        self._claim(
            len(rows) == len(report["items"]) and set(_kids(rows)) == {self._kid},
            f"All {len(rows)} rows are sealed with the key {self._kid}.",
            "a row is not sealed with the active key",
        )
        words = set(_words(report["items"]))
        everywhere = "\n".join(rows).encode()
        where = "any row"
        if self.own_store:
            everywhere += b"".join(path.read_bytes() for path in sorted(Path(self.settings.folder).glob("demo.db*")))
            where = "the file"
        self._claim(
            len(words) > 1 and not [word for word in words if word.encode() in everywhere],
            f"Not one of the {len(words)} longer words that were said can be read in {where}.",
            "words of the conversation can be read in the store",
        )
        return report

    def _another_process(self, start: dict[str, Any]) -> dict[str, Any]:
        self._chapter("It is stopped, and started again")
        self._say(f"Process {start['pid']} was killed. A new one opens the conversation:")
        report = self._step("go-on")
        self._dialogue(report["turn"])
        count = len(start["items"])
        self._claim(
            report["pid"] != start["pid"] and report["before"] == start["items"],
            f"Process {report['pid']} finds the same {count} items.",
            "the new process finds another history",
        )
        self._claim(
            report["turn"]["shown_to_model"] == count + 1 and start["turn"]["tool"] in report["turn"]["agent"],
            "The model was shown all of them, and its answer comes from there.",
            "the model was not shown the history",
        )
        return report

    def _rotation(self, before: dict[str, Any]) -> dict[str, Any]:
        self._chapter("The key rotates")
        old = self._kid
        self.keys.insert(0, Key.generate("second"))
        self._say(f"A new key is put first: {self._kid}, {old}.")
        report = self._step("rotate")
        self._dialogue(report["turn"])
        count = len(before["items"])
        self._claim(
            report["before"] == before["items"] and report["turn"]["shown_to_model"] == count + 1,
            f"The {count} older items still open, with the old key.",
            "items of the old key no longer open",
        )
        rows: list[str] = report["rows"]
        self._claim(
            rows[:count] == before["rows"] and set(_kids(rows[:count])) == {old},
            "Their rows were not touched.",
            "rows of the old key were changed",
        )
        self._claim(
            len(rows) == len(report["items"]) > count and set(_kids(rows[count:])) == {self._kid},
            f"New rows carry the new key's id, {self._kid}.",
            "a new row is not sealed with the new key",
        )
        return report

    def _expiry(self, before: dict[str, Any]) -> dict[str, Any]:
        self._chapter("Old items expire")
        self._say(f"A new process opens the conversation with a ttl of {SHORT_TTL_S} seconds:")
        report = self._step("expire")
        self._dialogue(report["turn"])
        rows: list[str] = before["rows"]
        waited = f", after {report['waited_s']:.1f} s of waiting" if report["waited_s"] else ""
        self._claim(
            report["outcomes"] == {"ok": 0, "expired": len(rows)},
            f"All {len(rows)} items are older than that{waited}: left out, and counted as expired.",
            f"not all items count as expired, but {report['outcomes']}",
        )
        self._claim(
            report["turn"]["shown_to_model"] == 1 and before["turn"]["agent"] not in report["turn"]["agent"],
            "The model was shown the question alone, and remembers nothing.",
            "the model was shown expired items",
        )
        return report

    def _wrong_key(self, before: dict[str, Any]) -> None:
        self._chapter("A wrong key explains itself")
        self.keys[:] = [Key.generate("other")]
        self._say(f"A process that has only {self._kid} is told, instead of an empty history:")
        report = self._step("mistake")
        for line in (report["explanation"] or "").splitlines():
            self._wrapped(line, "yellow", indent=_INDENT + 2, hanging=2 + len(line) - len(line.lstrip()))
        rows: list[str] = before["rows"]
        self._claim(
            report["outcomes"] == {"ok": 0, "unknown_key": len(rows)},
            f"UnreadableItemsError counts all {len(rows)} items, says why, and what to do.",
            f"the outcomes are {report['outcomes']}",
        )
        self._claim(report["rows"] == rows, "Nothing was deleted: every row is as it was.", "a wrong key changed rows")

    def _left_out(self) -> None:
        self._chapter("Left out: rotation and a wrong key")
        self._say("Both need other keys than yours. Without --keys and ENCRYPTED_SESSIONS_KEYS the demo shows them.")

    def _end(self) -> None:
        proven = ["ciphertext at rest", "a history that survives its process", "expiry"]
        if self.given is None:
            proven[2:2] = ["rotation without loss"]
            proven.append("a wrong key that says so")
        self._line()
        took = time.monotonic() - self.began
        self._wrapped(
            f"All {self.claims} checks passed, in {took:.0f} s: {', '.join(proven[:-1])}, and {proven[-1]}.",
            "bold green",
        )
        if not self.own_store:
            gone = " Their keys are gone, so nobody will read them again." if self.given is None else ""
            where = shown(self.settings.store)
            self._wrapped(f"The rows of session {self.settings.session_id} are still in {where}.{gone}")
        self._line("To go on:")
        if self.given is None:
            self._line('  export SESSION_KEYS="$(encrypted-sessions keygen)"')
        url = "env:SESSION_KEYS" if self.given is None else self.settings.keys
        self._line(f'  EncryptedSession.wrap(your_session, KeyRing.from_url("{url}"), ttl=86_400)')

    # -- A step in a process of its own -----------------------------------------------------

    @property
    def _kid(self) -> str:
        return self.keys[0].kid if self.given is None else self.given.kid

    def _step(self, step: str) -> dict[str, Any]:
        with self.console.status(" another process is at work", spinner="line"):
            done = self._run(step)
        line = done.stdout.strip().rpartition("\n")[2]
        try:
            report: dict[str, Any] = json.loads(line)
        except ValueError:
            report = {"failed": done.stderr.strip().rpartition("\n")[2] or f"it ended with {done.returncode}"}
        hide = self.settings.store
        if "failed" in report:
            reason = without_secrets(report["failed"], hide).rstrip(".")
            if self.own_store:
                raise DemoError(f"step {step!r} failed: {reason}.")
            raise DemoError(
                f"step {step!r} failed with the store {shown(hide)}: {reason}."
                " Check that this is its right address, and that it runs and lets you in."
            )
        if done.stderr:
            # Warnings: nothing is kept from the user.
            sys.stderr.write(without_secrets(done.stderr, hide))
        if done.returncode != (CUT_OFF_CODE if step == CUT_OFF else 0):
            raise ClaimError(f"the process of step {step!r} ended with {done.returncode}, which it should not.")
        return report

    def _run(self, step: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.settings.to_environment(), "PYTHONIOENCODING": "utf-8"}
        # The same packages as here, and not what lies in the folder that the user is in: a project
        # may well have a folder named agents.
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        if self.given is None:
            environment[KEYS_VARIABLE] = ",".join(f"{key.name}={key.reveal_base64()}" for key in self.keys)
        command = [sys.executable, "-m", "encrypted_sessions.demo.steps", step]
        try:
            return subprocess.run(  # noqa: S603 - this interpreter, a module of ours, and a name of ours
                command,
                env=environment,
                cwd=self.settings.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_STEP_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DemoError(
                f"step {step!r} did not end within {_STEP_TIMEOUT_S} s; does the store"
                f" {shown(self.settings.store)} answer?"
            ) from None

    # -- The page ---------------------------------------------------------------------------

    def _chapter(self, title: str) -> None:
        self.chapter += 1
        self._line()
        self._line(f"{self.chapter}. {title}", "bold")

    def _dialogue(self, turn: dict[str, Any]) -> None:
        for who in ("user", "tool", "agent"):
            if turn[who]:
                self._wrapped(f"{who:<5}  {turn[who]}", "cyan", indent=_INDENT, hanging=7)

    def _say(self, text: str) -> None:
        self._wrapped(text, indent=_INDENT)

    def _quote_row(self, row: str) -> None:
        """The first two lines of a row, as it is."""
        width = self._width - _INDENT - 2
        note = f"... ({len(row)} characters)"
        if len(row) > 2 * width:
            row = row[: 2 * width - len(note)] + note
        for begin in range(0, len(row), width):
            self._line(" " * (_INDENT + 2) + row[begin : begin + width], "yellow")

    def _claim(self, holds: bool, claim: str, otherwise: str) -> None:  # noqa: FBT001 - the condition itself
        if not holds:
            raise ClaimError(
                f"the demo claims {claim!r}, and it is not so here: {otherwise}."
                " Please report this, with the output above."
            )
        self.claims += 1
        self._wrapped(f"ok  {claim}", "green", indent=_INDENT, hanging=4)

    @property
    def _width(self) -> int:
        return max(_NARROWEST, min(self.console.width, _WIDEST))

    def _wrapped(self, text: str, style: str | None = None, *, indent: int = 0, hanging: int = 0) -> None:
        begin = " " * indent
        for line in textwrap.wrap(
            text,
            self._width,
            initial_indent=begin,
            subsequent_indent=begin + " " * hanging,
            break_on_hyphens=False,
            break_long_words=False,
        ):
            self._line(line, style)

    def _line(self, text: str = "", style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, soft_wrap=True)


def _kids(rows: Sequence[str]) -> Iterator[str | None]:
    for row in rows:
        envelope = parse_row(row)
        yield envelope.kid if isinstance(envelope, Envelope) else None


def _words(value: object) -> Iterator[str]:
    """The words of six letters or more that people and tools said: shorter ones turn up in ciphertext by chance."""
    if isinstance(value, list):
        for part in value:
            yield from _words(part)
    elif isinstance(value, dict):
        for name in ("content", "text", "name", "arguments", "output"):
            yield from _words(value.get(name))
    elif isinstance(value, str):
        yield from re.findall(r"\w{6,}", value)
