"""The story of the demo, chapter by chapter; `page` writes it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keyproviders import Key

from ..core.envelope import Envelope, parse_row
from .errors import ClaimError, DemoError, UnreachedError
from .page import INDENT, Page
from .steps import CUT_OFF, CUT_OFF_CODE, KEYS_VARIABLE, SHORT_TTL_S, Settings
from .store import shown, without_secrets

__all__ = ["GivenKeys", "Story"]

_STEP_TIMEOUT_S = 120


@dataclass(frozen=True)
class GivenKeys:
    """The keys that the user gave: where they are, and which one is active."""

    place: str
    kid: str


@dataclass
class Story:
    """The chapters, each of which has its step done in a process of its own and checks what came of it."""

    settings: Settings
    given: GivenKeys | None
    own_store: bool
    page: Page = field(default_factory=Page)
    began: float = field(default_factory=time.monotonic)
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
        self.page.line(f"encrypted-sessions {version('encrypted-sessions')}: a conversation under lock and key", "bold")
        self.page.wrapped("A real agent with a scripted model: it needs no API key and no network.")
        if self.own_store:
            self.page.line("Store: SQLite, in a temporary folder that is removed at the end.")
        else:
            self.page.line(f"Store: {shown(self.settings.store)}, session {self.settings.session_id}.")
        if self.given is None:
            self.page.line("Keys:  random, the demo's own, destroyed at the end.")
        else:
            self.page.line(f"Keys:  {self.given.place}; the active one is {self.given.kid}.")

    def _conversation(self) -> dict[str, Any]:
        self.page.chapter("An agent holds a conversation")
        report = self._step("start")
        self.page.dialogue(report["turn"])
        rows: list[str] = report["rows"]
        self.page.line()
        self.page.say("Its last item, as the SDK's own session stores it:")
        self.page.quote_row(report["bare_row"])
        self.page.say("The same item in the store now:")
        self.page.quote_row(rows[-1])
        self.page.claim(
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
        self.page.claim(
            len(words) > 1 and not [word for word in words if word.encode() in everywhere],
            f"None of the {len(words)} longer words of the conversation can be read in {where}.",
            "words of the conversation can be read in the store",
        )
        return report

    def _another_process(self, start: dict[str, Any]) -> dict[str, Any]:
        self.page.chapter("It is stopped, and started again")
        self.page.say(f"Process {start['pid']} was killed. A new one opens the conversation:")
        report = self._step("go-on")
        self.page.dialogue(report["turn"])
        count = len(start["items"])
        self.page.claim(
            report["pid"] != start["pid"] and report["before"] == start["items"],
            f"Process {report['pid']} finds the same {count} items.",
            "the new process finds another history",
        )
        self.page.claim(
            report["turn"]["shown_to_model"] == count + 1 and start["turn"]["tool"] in report["turn"]["agent"],
            "The model was shown all of them, and its answer is based on them.",
            "the model was not shown the history",
        )
        return report

    def _rotation(self, before: dict[str, Any]) -> dict[str, Any]:
        self.page.chapter("The key rotates")
        old = self._kid
        self.keys.insert(0, Key.generate("second"))
        self.page.say(f"A new key is put first: {self._kid}, {old}.")
        report = self._step("rotate")
        self.page.dialogue(report["turn"])
        count = len(before["items"])
        self.page.claim(
            report["before"] == before["items"] and report["turn"]["shown_to_model"] == count + 1,
            f"The {count} older items still open, with the old key.",
            "items of the old key no longer open",
        )
        rows: list[str] = report["rows"]
        self.page.claim(
            rows[:count] == before["rows"] and set(_kids(rows[:count])) == {old},
            "Their rows were not touched.",
            "rows of the old key were changed",
        )
        self.page.claim(
            len(rows) == len(report["items"]) > count and set(_kids(rows[count:])) == {self._kid},
            f"New rows carry the new key's id, {self._kid}.",
            "a new row is not sealed with the new key",
        )
        return report

    def _expiry(self, before: dict[str, Any]) -> dict[str, Any]:
        self.page.chapter("Old items expire")
        self.page.say(f"A new process opens the conversation with a ttl of {SHORT_TTL_S} seconds:")
        report = self._step("expire")
        self.page.dialogue(report["turn"])
        rows: list[str] = before["rows"]
        waited = f", after {report['waited_s']:.1f} s of waiting" if report["waited_s"] else ""
        self.page.claim(
            report["outcomes"] == {"ok": 0, "expired": len(rows)},
            f"All {len(rows)} items are older than that{waited}: left out, and counted as expired.",
            f"not all items count as expired, but {report['outcomes']}",
        )
        self.page.claim(
            report["turn"]["shown_to_model"] == 1 and before["turn"]["agent"] not in report["turn"]["agent"],
            "The model was shown the question alone, and remembers nothing.",
            "the model was shown expired items",
        )
        return report

    def _wrong_key(self, before: dict[str, Any]) -> None:
        self.page.chapter("A wrong key explains itself")
        self.keys[:] = [Key.generate("other")]
        self.page.say(f"A process that has only {self._kid} gets this error instead of an empty history:")
        report = self._step("mistake")
        for line in (report["explanation"] or "").splitlines():
            self.page.wrapped(line, "yellow", indent=INDENT + 2, hanging=2 + len(line) - len(line.lstrip()))
        rows: list[str] = before["rows"]
        self.page.claim(
            report["outcomes"] == {"ok": 0, "unknown_key": len(rows)},
            f"UnreadableItemsError counts all {len(rows)} items, and says why and what to do.",
            f"the outcomes are {report['outcomes']}",
        )
        self.page.claim(
            report["rows"] == rows, "Nothing was deleted: every row is as it was.", "a wrong key changed rows"
        )

    def _left_out(self) -> None:
        self.page.chapter("Left out: rotation and a wrong key")
        self.page.say(
            "Both need keys other than yours. Without --keys and ENCRYPTED_SESSIONS_KEYS the demo shows them."
        )

    def _end(self) -> None:
        proven = ["ciphertext at rest", "a history that survives its process", "expiry"]
        if self.given is None:
            proven[2:2] = ["rotation without loss"]
            proven.append("a wrong key that says so")
        self.page.line()
        took = time.monotonic() - self.began
        self.page.wrapped(
            f"All {self.page.claims} checks passed, in {took:.0f} s: {', '.join(proven[:-1])}, and {proven[-1]}.",
            "bold green",
        )
        if not self.own_store:
            gone = " Their keys are gone, so nobody can read them again." if self.given is None else ""
            where = shown(self.settings.store)
            self.page.wrapped(f"The rows of session {self.settings.session_id} are still in {where}.{gone}")
        self.page.line("To continue:")
        if self.given is None:
            self.page.line('  export SESSION_KEYS="$(encrypted-sessions keygen)"')
        url = "env:SESSION_KEYS" if self.given is None else self.settings.keys
        self.page.line(f'  EncryptedSession.wrap(your_session, KeyRing.from_url("{url}"), ttl=86_400)')

    # -- A step in a process of its own -----------------------------------------------------

    @property
    def _kid(self) -> str:
        return self.keys[0].kid if self.given is None else self.given.kid

    def _step(self, step: str) -> dict[str, Any]:
        with self.page.waiting(" another process is at work"):
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
            raise (UnreachedError if report.get("unreached") else DemoError)(
                f"step {step!r} failed with the store {shown(hide)}: {reason}."
                " Check that the address is right, that the store is running and that you may log in."
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
            raise UnreachedError(
                f"step {step!r} did not end within {_STEP_TIMEOUT_S} s; does the store"
                f" {shown(self.settings.store)} answer?"
            ) from None


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
