"""The demo's processes: each opens the conversation anew, does one thing, and reports on stdout.

`python -m encrypted_sessions.demo.steps STEP`. What it needs to know comes in the environment,
where arguments that every user of the machine can list would not hide it. One line of JSON comes
back: what was said, what lies in the store, or in one sentence why it went wrong.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyproviders import KeyProviderError, KeyRing

from ..errors import EncryptedSessionError, StoreError, UnreadableItemsError
from ..session import EncryptedSession
from ..stores.driver_errors import trouble_of
from .store import bare_session, raw_rows, without_secrets

if TYPE_CHECKING:
    from agents.testing import ModelCall, ScriptedModel

__all__ = ["CUT_OFF", "CUT_OFF_CODE", "KEYS_VARIABLE", "SETTINGS_VARIABLE", "SHORT_TTL_S", "STEPS", "Settings", "main"]

SETTINGS_VARIABLE = "ENCRYPTED_SESSIONS_DEMO_SETTINGS"
KEYS_VARIABLE = "ENCRYPTED_SESSIONS_DEMO_KEYS"

_A_DAY_S = 86_400
#: The ttl of the step that shows expiry, in seconds.
SHORT_TTL_S = 2
#: How it waits for that: often, and not for ever.
_WAIT_S, _MOST_WAITS = 0.1, 100


@dataclass(frozen=True)
class Settings:
    """What a step needs to know."""

    keys: str
    """The URL of the keys."""
    store: str
    session_id: str
    folder: str
    """A temporary folder, for what the demo writes beside the store."""
    started_in: str
    """The folder in which the command was started: relative paths count from there."""

    def to_environment(self) -> dict[str, str]:
        """As environment variables for a step's process."""
        return {SETTINGS_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Settings:
        """As `to_environment` gave them."""
        return cls(**json.loads(os.environ[SETTINGS_VARIABLE]))


@asynccontextmanager
async def _conversation(settings: Settings, *, ttl: int = _A_DAY_S) -> AsyncIterator[EncryptedSession]:
    async with bare_session(settings.store, settings.session_id) as store, KeyRing.from_url(settings.keys) as keys:
        yield EncryptedSession.wrap(store, keys, ttl=ttl)


# -- The agent ------------------------------------------------------------------------------

# The model follows a script, and knows nothing but what it is given: its answers below come from
# the history alone, so an answer shows whether the history was there.


def _tool_output(call: ModelCall) -> str | None:
    outputs = [item["output"] for item in call.input if item.get("type") == "function_call_output"]
    return str(outputs[-1]) if outputs else None


def _name_of_the_guest(call: ModelCall) -> str | None:
    said = " ".join(str(item.get("content")) for item in call.input if item.get("role") == "user")
    found = re.search(r"I am (\w+)", said)
    return found[1] if found else None


def _confirm(call: ModelCall) -> str:
    return f"Done, {_name_of_the_guest(call)}: {_tool_output(call)}."


def _recall_the_booking(call: ModelCall) -> str:
    booking = _tool_output(call)
    return f"You have {booking}." if booking else "I know of no booking."


def _recall_the_name(call: ModelCall) -> str:
    name = _name_of_the_guest(call)
    return f"Under the name {name}." if name else "I know of no name."


async def _talk(
    session: EncryptedSession, said: str, answer: Callable[[ModelCall], str], *, books: bool = False
) -> dict[str, Any]:
    """One turn of the agent; gives what was said and what the model was shown."""
    from agents import Agent, RunConfig, Runner, function_tool  # noqa: PLC0415 - only a process with an agent needs it
    from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call  # noqa: PLC0415

    # Ids as a model gives them: another one for each item.
    turn = len((await session.read()).items)

    def respond(call: ModelCall) -> list[Any]:
        return [assistant_message(answer(call), item_id=f"message-{turn}")]

    @function_tool
    def book_table(day: str, people: int) -> str:
        """Book a table."""
        seats = {2: "two"}.get(people, str(people))
        return f"table seven for {seats}, {day} at eight, reservation BLUEFISH"

    model: ScriptedModel = ScriptedModel()
    if books:
        arguments = {"day": "Saturday", "people": 2}
        model.enqueue([function_call("book_table", arguments, call_id=f"call-{turn}")])
    model.enqueue(ModelStep.respond(respond))
    agent = Agent(name="Waiter", instructions="Book tables.", model=model, tools=[book_table])
    # Tracing would send the conversation to a server.
    done = await Runner.run(agent, said, session=session, run_config=RunConfig(tracing_disabled=True))
    model.assert_complete()
    shown = model.calls[0].input
    tool = _tool_output(model.calls[-1]) if books else None
    return {"user": said, "tool": tool, "agent": str(done.final_output), "shown_to_model": len(shown)}


# -- The steps ------------------------------------------------------------------------------


async def _start(settings: Settings) -> dict[str, Any]:
    async with _conversation(settings) as session:
        turn = await _talk(session, "I am Rosalind. Please book a table for two on Saturday.", _confirm, books=True)
        items = await session.get_items()
    return {
        "turn": turn,
        "items": items,
        "rows": await raw_rows(settings.store, settings.session_id),
        "bare_row": await _bare_row(settings, items[-1]),
    }


async def _bare_row(settings: Settings, item: Any) -> str:
    """What the SDK's session alone stores for this item: tried, not guessed."""
    path = str(Path(settings.folder) / "bare.db")
    async with bare_session(path, settings.session_id) as bare:
        await bare.add_items([item])
    return (await raw_rows(path, settings.session_id))[-1]


async def _go_on(settings: Settings) -> dict[str, Any]:
    return await _another_turn(settings, "Which table did I book?", _recall_the_booking)


async def _rotate(settings: Settings) -> dict[str, Any]:
    return await _another_turn(settings, "And under which name?", _recall_the_name)


async def _another_turn(settings: Settings, said: str, answer: Callable[[ModelCall], str]) -> dict[str, Any]:
    async with _conversation(settings) as session:
        before = await session.get_items()
        turn = await _talk(session, said, answer)
        items = await session.get_items()
    return {
        "before": before,
        "turn": turn,
        "items": items,
        "rows": await raw_rows(settings.store, settings.session_id),
    }


async def _expire(settings: Settings) -> dict[str, Any]:
    waits = 0
    async with _conversation(settings, ttl=SHORT_TTL_S) as session:
        expired = await session.read()
        while expired.items and waits < _MOST_WAITS:
            waits += 1
            await asyncio.sleep(_WAIT_S)
            expired = await session.read()
        turn = await _talk(session, "Which table did I book?", _recall_the_booking)
    return {
        "waited_s": waits * _WAIT_S,
        "outcomes": dict(expired.outcomes),
        "turn": turn,
        "rows": await raw_rows(settings.store, settings.session_id),
    }


async def _mistake(settings: Settings) -> dict[str, Any]:
    explanation, outcomes = None, None
    async with _conversation(settings) as session:
        try:
            await session.get_items()
        except UnreadableItemsError as error:
            explanation, outcomes = str(error), error.outcomes
    return {
        "explanation": explanation,
        "outcomes": outcomes,
        "rows": await raw_rows(settings.store, settings.session_id),
    }


STEPS: dict[str, Callable[[Settings], Coroutine[Any, Any, dict[str, Any]]]] = {
    "start": _start,
    "go-on": _go_on,
    "rotate": _rotate,
    "expire": _expire,
    "mistake": _mistake,
}
#: This one is killed when it has reported: nothing is closed, nothing is written on the way out.
CUT_OFF = "start"
# On Windows, SIGTERM is what ends a process without asking it.
_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
#: What `subprocess` says of a process that ended so.
CUT_OFF_CODE = int(_KILL) if sys.platform == "win32" else -int(_KILL)


# -- The process ----------------------------------------------------------------------------


def main(step: str) -> int:
    """Do one step and report it; the exit code."""
    # What goes wrong is reported once, by the command.
    for name in ("encrypted_sessions", "keyproviders"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    settings = Settings.from_environment()
    os.chdir(settings.started_in)
    failed = False
    try:
        report = asyncio.run(STEPS[step](settings))
    except KeyboardInterrupt:
        return 1  # the command got the same signal, and says so
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets a sentence instead of a traceback
        report, failed = {"failed": without_secrets(_describe(error), settings.store)}, True
        report["unreached"] = isinstance(error, (KeyProviderError, StoreError)) or trouble_of(error) is not None
    print(json.dumps({"pid": os.getpid(), **report}), flush=True)  # noqa: T201 - this is the report
    if step == CUT_OFF and not failed:
        os.kill(os.getpid(), _KILL)
    return int(failed)


def _describe(error: Exception) -> str:
    if isinstance(error, (EncryptedSessionError, KeyProviderError)):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if error.name.partition(".")[0] == "agents":
            return f"{error}: the demo needs openai-agents 0.24 or newer; pip install -U 'encrypted-sessions[agents]'"
        return f"the store needs the package {error.name}; pip install {error.name}"
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
