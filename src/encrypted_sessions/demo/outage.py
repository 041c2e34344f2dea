"""`make demo-outage`: a key server is stopped, continued and killed under a running agent.

    python -m encrypted_sessions.demo.outage

The server is another process. The agent is a real one with a scripted model, and takes turns all
the time. The times of the ring are shortened, so that all of it fits into half a minute; what
happens in which order is what happens with the defaults.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyproviders import CachePolicy, KeyEvent, KeyProviderError, KeyRing

from ..session import EncryptedSession
from .outage_server import KeyServer

if TYPE_CHECKING:
    from agents import Agent

#: The default divided by 100, but for reading: a hundredth of 24 hours would be too long to watch.
POLICY = CachePolicy(fresh_s=3, stale_write_s=9, stale_read_s=13, denied_grace_s=3)
_DEFAULT = CachePolicy()

# What happens to the server, in seconds after the start.
_STOPPED_S = 2.0
_CONTINUED_S = 6.0
_KILLED_S = 9.0
_EVERY_S = 0.2
_LOOK_EVERY_S = 0.02
#: A turn that begins later than this before the end of writing may be cut off by it.
_A_TURN_S = 1.0
#: The longest that this may take: four times what it does.
_AT_MOST_S = 120.0


@dataclass
class Turn:
    """One turn of the agent, with times in seconds after the start."""

    at_s: float
    took_s: float
    error: str | None


@dataclass
class Outage:
    """What was seen. Times are in seconds after the start; ages count from the last answer."""

    turns: list[Turn] = field(default_factory=list)
    write_ended_age_s: float | None = None
    """The age of the last answer when writing ended; a turn that begins later may fail."""
    write_ended_s: float = 0.0
    read_ended_age_s: float | None = None
    write_error: str = ""
    read_error: str = ""
    read_while_not_writing: int = 0
    """How often the history was read after writing had ended."""
    back_after_s: float | None = None
    """How long after the new start of the server the first turn was done."""

    @property
    def turns_within(self) -> list[Turn]:
        """The turns that had time enough before writing ended: none of them may fail."""
        return [turn for turn in self.turns if turn.at_s < self.write_ended_s - _A_TURN_S]

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(turn.error is not None for turn in self.turns_within)


class _Story:
    def __init__(self, server: KeyServer, say: Callable[[str], None]) -> None:
        self.seen = Outage()
        self._server = server
        self._say = say
        self._ring = KeyRing(server.provider(), cache=POLICY, on_event=self._tell_event)
        self._began = time.monotonic()
        self._agent = _agent()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def tell(self, who: str, what: str) -> None:
        self._say(f"{self._now():6.1f} s  {who:<11} {what}")

    def _tell_event(self, event: KeyEvent) -> None:
        words = {
            "fetched": f"has the key {event.kid}",
            "refreshed": "got an answer: the key is confirmed",
            "failed": f"got no answer: {event.error}",
            "served stale": "goes on with the key that it has",
            "dropped": "lets go of the key",
        }
        self.tell("ring", words.get(event.what, event.what))

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
        self.tell("key server", "stopped (SIGSTOP): it takes questions and answers none")
        await self._wait_until(_CONTINUED_S)
        self._server.go_on()
        self.tell("key server", "continued (SIGCONT)")
        await self._wait_until(_KILLED_S)

    async def _kill_it(self, session: EncryptedSession) -> None:
        self._server.kill()
        self.tell("key server", "killed (SIGKILL): connections are refused")
        await self._watch(lambda: not self._ring.health().can_write)
        self.seen.write_ended_s, self.seen.write_ended_age_s = self._now(), self._ring.health().last_healthy_s
        self.tell("ring", f"writing ends, {self.seen.write_ended_age_s:.1f} s after the last answer; reading goes on")
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
        self.tell("ring", f"reading ends, {self.seen.read_ended_age_s:.1f} s after the last answer")

    async def _let_it_come_back(self, session: EncryptedSession) -> None:
        await asyncio.to_thread(self._server.start)
        self.tell("key server", f"started again, process {self._server.pid}")
        began = self._now()
        turn = await self._turn(session)
        while turn.error is not None:
            turn = await self._turn(session)
        self.seen.back_after_s = self._now() - began
        self.tell("agent", "a turn is done again, with the whole history")

    async def _take_turns(self, session: EncryptedSession) -> None:
        told = False
        while True:
            turn = await self._turn(session)
            if turn.error is not None and not told:
                told = True
                self.seen.write_error = turn.error
                self.tell("agent", "a turn cannot be sealed, and fails; nothing is stored in the clear")
            await asyncio.sleep(_EVERY_S)

    async def _turn(self, session: EncryptedSession) -> Turn:
        from agents import RunConfig, Runner  # noqa: PLC0415 - the SDK is an extra

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
    from agents import Agent  # noqa: PLC0415 - the SDK is an extra
    from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message  # noqa: PLC0415 - likewise

    def respond(call: ModelCall) -> list[Any]:
        return [assistant_message("I am here.", item_id=f"message-{len(call.input)}")]

    return Agent(name="patient", model=ScriptedModel([ModelStep.respond(respond)] * 1_000))


def show(say: Callable[[str], None]) -> Outage:
    """Tell the story line by line through ``say``, and give what was seen.

    Raises RuntimeError when the server does not start, and TimeoutError when it takes too long.
    Leaves no process and no file behind.
    """
    from agents import SQLiteSession  # noqa: PLC0415 - the SDK is an extra

    # What goes wrong is told once, in the timeline.
    logging.getLogger("keyproviders").addHandler(logging.NullHandler())
    say("A key server that is another process, and an agent that takes a turn every 0.2 s.")
    say("The ring's times are shortened to fit, and all else is as it always is:")
    say(f"  fresh for {POLICY.fresh_s} s instead of {_DEFAULT.fresh_s / 60:g} min,")
    say(f"  writing for {POLICY.stale_write_s} s instead of {_DEFAULT.stale_write_s / 60:g} min,")
    say(f"  reading for {POLICY.stale_read_s} s instead of {_DEFAULT.stale_read_s / 3600:g} h.")
    say("")
    with tempfile.TemporaryDirectory(prefix="encrypted-sessions-outage-") as folder, KeyServer() as server:
        store = SQLiteSession("patient", Path(folder, "outage.db"))
        try:
            story = _Story(server, say)
            story.tell("key server", f"runs, process {server.pid}")
            asyncio.run(asyncio.wait_for(story.run(store), _AT_MOST_S))
        finally:
            store.close()
    _sum_up(story.seen, say)
    return story.seen


def _sum_up(seen: Outage, say: Callable[[str], None]) -> None:
    within = seen.turns_within
    beyond = [turn for turn in seen.turns if turn.error is not None]
    say("")
    say(f"{'bound':<42} {'default':>8} {'here':>8} {'measured':>10}")
    rows = [
        ("writing goes on after the last answer", _DEFAULT.stale_write_s, POLICY.stale_write_s, seen.write_ended_age_s),
        ("reading goes on after the last answer", _DEFAULT.stale_read_s, POLICY.stale_read_s, seen.read_ended_age_s),
    ]
    for what, default, here, measured in rows:
        usual = f"{default / 3600:g} h" if default >= 3600 else f"{default / 60:g} min"
        say(f"{what:<42} {usual:>8} {f'{here:g} s':>8} {'never' if measured is None else f'{measured:.1f} s':>10}")
    say("")
    say(f"Beyond the bound of writing {len(beyond)} turns failed, and said why:")
    say(f"  {seen.write_error}")
    say(f"The history was read {seen.read_while_not_writing} times after that, until reading ended as well:")
    say(f"  {seen.read_error}")
    if seen.back_after_s is not None:
        say(f"With the server back, a turn was done after {seen.back_after_s:.1f} s. Nothing else was started again.")
    say("")
    slowest = max((turn.took_s for turn in within), default=0.0)
    say(
        f"Turns within the bounds: {len(within)}. The slowest took {slowest * 1e3:.0f} ms. Failed turns: {seen.failed}."
    )


def main() -> int:
    """Show it on stdout: 0 when no turn failed within the bounds, 1 otherwise, 3 when interrupted."""
    if not hasattr(signal, "SIGSTOP"):
        sys.stderr.write("Error: this system cannot stop and continue a process, which the demo shows.\n")
        return 1
    for told_to_end in (signal.SIGTERM, signal.SIGHUP):
        # As by Ctrl-C, so that nothing is left behind.
        signal.signal(told_to_end, signal.default_int_handler)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        seen = show(say)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 3
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "agents":
            raise
        sys.stderr.write("Error: the demo runs an agent: pip install 'encrypted-sessions[agents]'\n")
        return 1
    return int(seen.failed > 0 or not seen.turns_within)


if __name__ == "__main__":
    sys.exit(main())
