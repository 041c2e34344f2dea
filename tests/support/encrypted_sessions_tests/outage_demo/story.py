"""The story of the outage demo: an agent takes turns while its key server is stopped, continued and killed.

The server is another process. The agent is a real one with a scripted model. The times of the ring
are shortened, so that all of it fits into half a minute; what happens in which order is what
happens with the defaults.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from agents import Agent, RunConfig, Runner, SQLiteSession
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message

from encrypted_sessions import EncryptedSession, KeyProviderError, KeyRing
from keyproviders import KeyEvent

from .observations import DEFAULT_POLICY, POLICY, Outage, Turn, summarize
from .server import KeyServer

__all__ = ["show"]

# What happens to the server, in seconds after the start.
_STOPPED_S = 2.0
_CONTINUED_S = 6.0
_KILLED_S = 9.0
_EVERY_S = 0.2
_LOOK_EVERY_S = 0.02
#: The longest that this may take: four times what it does.
_AT_MOST_S = 120.0


class _Story:
    def __init__(self, server: KeyServer, say: Callable[[str], None]) -> None:
        self.seen = Outage()
        self._server = server
        self._say = say
        self._ring = KeyRing(server.provider(), cache=POLICY, on_event=self._on_event)
        self._began = time.monotonic()
        self._agent = _agent()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def log(self, who: str, what: str) -> None:
        self._say(f"{self._now():6.1f} s  {who:<11} {what}")

    def _on_event(self, event: KeyEvent) -> None:
        words = {
            "fetched": f"has the key {event.kid}",
            "refreshed": "got an answer: the key is confirmed",
            "failed": f"got no answer: {event.error}",
            "served stale": "goes on with the key that it has",
            "dropped": "lets go of the key",
            "degraded": "waits for an answer that is overdue",
            "write_ended": "may no longer write",
            "recovered": "has its answer again",
        }
        self.log("ring", words.get(event.what, event.what))

    async def run(self, store: Any) -> None:
        """All of it, one act after the other. Whatever happens, the ring is closed."""
        session = EncryptedSession.wrap(store, self._ring, ttl=86_400)
        try:
            turning = asyncio.create_task(self._take_turns(session))
            try:
                await self._let_it_hang()
                await self._kill_it(session)
                turning.cancel()
                await asyncio.wait([turning])
                await self._let_it_come_back(session)
            finally:
                turning.cancel()
        finally:
            await self._ring.aclose()

    async def _let_it_hang(self) -> None:
        await self._wait_until(_STOPPED_S)
        self._server.stop()
        self.log("key server", "stopped (SIGSTOP): it takes questions and answers none")
        await self._wait_until(_CONTINUED_S)
        self._server.go_on()
        self.log("key server", "continued (SIGCONT)")
        await self._wait_until(_KILLED_S)

    async def _kill_it(self, session: EncryptedSession) -> None:
        self._server.kill()
        self.log("key server", "killed (SIGKILL): connections are refused")
        await self._watch(lambda: not self._ring.health().can_write)
        self.seen.write_ended_s, self.seen.write_ended_age_s = self._now(), self._ring.health().last_healthy_s
        self.log("ring", f"writing ends, {self.seen.write_ended_age_s:.1f} s after the last answer; reading goes on")
        while not self.seen.read_error:
            try:
                await session.get_items()
            except KeyProviderError as error:
                if self._ring.health().can_read:
                    raise
                self.seen.read_error = f"{type(error).__name__}: {error}"
            else:
                self.seen.read_while_not_writing += 1
                await asyncio.sleep(_LOOK_EVERY_S)
        self.seen.read_ended_age_s = self._ring.health().last_healthy_s
        self.log("ring", f"reading ends, {self.seen.read_ended_age_s:.1f} s after the last answer")

    async def _let_it_come_back(self, session: EncryptedSession) -> None:
        await asyncio.to_thread(self._server.start)
        self.log("key server", f"started again, process {self._server.pid}")
        began = self._now()
        turn = await self._turn(session)
        while turn.error is not None:
            turn = await self._turn(session)
        self.seen.back_after_s = self._now() - began
        self.log("agent", "a turn is done again, with the whole history")

    async def _take_turns(self, session: EncryptedSession) -> None:
        failed_before = False
        while True:
            turn = await self._turn(session)
            if turn.error is not None and not failed_before:
                failed_before = True
                self.seen.write_error = turn.error
                self.log("agent", "a turn cannot be sealed, and fails; nothing is stored in the clear")
            await asyncio.sleep(_EVERY_S)

    async def _turn(self, session: EncryptedSession) -> Turn:
        at_s, error = self._now(), None
        try:
            await Runner.run(
                self._agent, "Are you there?", session=session, run_config=RunConfig(tracing_disabled=True)
            )
        except KeyProviderError as raised:
            error = f"{type(raised).__name__}: {raised}"
        turn = Turn(at_s, self._now() - at_s, error)
        self.seen.turns.append(turn)
        return turn

    async def _wait_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self._now()))

    async def _watch(self, happened: Callable[[], bool]) -> None:
        while not happened():  # noqa: ASYNC110 - a ring's health is asked for, it tells nobody
            await asyncio.sleep(_LOOK_EVERY_S)


def _agent() -> Agent[Any]:
    def respond(call: ModelCall) -> list[Any]:
        return [assistant_message("I am here.", item_id=f"message-{len(call.input)}")]

    return Agent(
        name="patient", model=ScriptedModel([ModelStep.respond(respond)] * 200)
    )  # it copies each step that it is given


async def _until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Cancelled by a signal: up to Python 3.10, what is raised where one arrives is never retrieved from its task."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait_for(work, _AT_MOST_S)


def show(say: Callable[[str], None]) -> Outage:
    """Tell the story line by line through `say`, and give what was seen.

    Raises RuntimeError when the server does not start, and TimeoutError when it takes too long.
    Leaves no process and no file behind.
    """
    # What goes wrong is reported once, in the timeline.
    logging.getLogger("keyproviders").addHandler(logging.NullHandler())
    say("A key server that is another process, and an agent that takes a turn every 0.2 s.")
    say("The ring's times are shortened to fit, and all else is as it always is:")
    say(f"  fresh for {POLICY.fresh_s} s instead of {DEFAULT_POLICY.fresh_s / 60:g} min,")
    say(f"  writing for {POLICY.stale_write_s} s instead of {DEFAULT_POLICY.stale_write_s / 60:g} min,")
    say(f"  reading for {POLICY.stale_read_s} s instead of {DEFAULT_POLICY.stale_read_s / 3600:g} h.")
    say("")
    with tempfile.TemporaryDirectory(prefix="encrypted-sessions-outage-") as folder, KeyServer() as server:
        store = SQLiteSession("patient", Path(folder, "outage.db"))
        try:
            story = _Story(server, say)
            story.log("key server", f"runs, process {server.pid}")
            asyncio.run(_until_interrupted(story.run(store)))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            store.close()
    summarize(story.seen, say)
    return story.seen
