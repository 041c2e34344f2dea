"""A conversation of many turns: each reads the whole history and adds to it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from statistics import median
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from agents.testing import assistant_message
from measuring import Table, Taken, in_turn, ms
from subjects import BARE, OURS, OURS_2, SDK, all_three

TARGET = 0.9
#: In processor time, as multiples of the bare store, for conversations of so many turns.
TARGETS = {50: {OURS: 1.6, OURS_2: 1.4}, 200: {OURS: 2.3, OURS_2: 1.6}, 400: {OURS: 2.7, OURS_2: 1.75}}
SUBJECTS = (BARE, SDK, OURS, OURS_2)
_QUESTION = "Is there a table for two on Saturday, and what is on the menu?"
_ANSWER = "The table by the window is free on Saturday at eight; shall I book it in your name?"
_NO_TRACING = RunConfig(tracing_disabled=True)

Turn = Callable[[str, Any], Awaitable[None]]


class OneAnswer(Model):
    """A model that takes no time: the SDK's ScriptedModel copies the history for each call, which takes some."""

    def __init__(self) -> None:
        self.number = 0

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        self.number += 1
        return ModelResponse([assistant_message(_ANSWER, item_id=f"message-{self.number}")], Usage(), None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("only whole answers are measured")


def _run_turn() -> Turn:
    """A turn of an agent, by the SDK's Runner."""
    agents = {subject: Agent(name="Waiter", model=OneAnswer()) for subject in SUBJECTS}

    async def turn(subject: str, session: Any) -> None:
        await Runner.run(agents[subject], _QUESTION, session=session, run_config=_NO_TRACING)

    return turn


def _session_turn() -> Turn:
    """What a turn at least asks of the session: the history, and to keep the question and the answer."""
    said = [
        {"role": "user", "content": _QUESTION},
        assistant_message(_ANSWER, item_id="message-1").model_dump(exclude_unset=True),
    ]

    async def turn(_: str, session: Any) -> None:
        await session.get_items()
        await session.add_items(said)

    return turn


_SESSION, _RUNNER = "session's calls", "with the Runner"
# the kind, its turn, and how often conversations of how many turns are held
_KINDS: tuple[tuple[str, Callable[[], Turn], Sequence[tuple[int, int]]], ...] = (
    (_SESSION, _session_turn, ((50, 41), (200, 9), (400, 3))),
    (_RUNNER, _run_turn, ((50, 5), (200, 2), (400, 1))),
)


async def measure(*, quick: bool) -> Table:
    table = Table(
        "An agent loop",
        (
            *("turns", *SUBJECTS, "suite 1 / SDK's", "target", "met", "SDK's / bare"),
            *("suite 1 / bare", "target", "met", "suite 2 / bare", "target", "met"),
        ),
        "A whole conversation over a SQLite file: every turn reads the history and adds a question and an answer."
        " First come only the session's calls, one `get_items` and one `add_items` each turn; the targets apply to"
        " these. Then the same through `Runner.run` (a model that answers at once, tracing off): most of that time"
        " is the Runner's own, which copies the whole history several times on every turn. The four conversations"
        " alternate, turn by turn. The comparison with the bare store is in processor time.",
    )
    for kind, make_turn, plan in _KINDS:
        for turns, rounds in plan[:1] if quick else plan:
            conversations = [await _conversations(turns, make_turn()) for _ in range(2 if quick else rounds)]
            took = {subject: _usual([taken[subject] for taken in conversations]) for subject in SUBJECTS}
            ratio, label = took[OURS].wall / took[SDK].wall, f"{turns}, {kind}"
            is_judged = kind == _SESSION
            cells = [f"{ratio:.2f}", *(table.judged(label, ratio, TARGET) if is_judged else ("", ""))]
            cells.append(f"{took[SDK].cpu / took[BARE].cpu:.2f}")
            for subject in (OURS, OURS_2):
                more = took[subject].cpu / took[BARE].cpu
                judged = table.judged(f"{label}, {subject}", more, TARGETS[turns][subject]) if is_judged else ("", "")
                cells += [f"{more:.2f}", *judged]
            table.add(label, *(ms(took[subject].wall) for subject in SUBJECTS), *cells)
    return table


async def _conversations(turns: int, turn: Turn) -> dict[str, list[Taken]]:
    """What each turn of each subject's conversation took."""
    taken: dict[str, list[Taken]] = {subject: [] for subject in SUBJECTS}
    with tempfile.TemporaryDirectory() as folder:
        async with all_three(folder, subjects=SUBJECTS) as sessions:
            for session in sessions.values():
                await session.get_items()  # opens connections
            for order in in_turn(SUBJECTS, turns):
                for subject in order:
                    start = Taken.since()
                    await turn(subject, sessions[subject])
                    taken[subject].append(Taken.since(start))
            for session in sessions.values():
                assert len(await session.get_items()) == 2 * turns
    return taken


def _usual(conversations: Sequence[Sequence[Taken]]) -> Taken:
    """A whole conversation, each of its turns being the median of that turn in all of them."""
    turns = [[median(values) for values in zip(*turn, strict=True)] for turn in zip(*conversations, strict=True)]
    return Taken(*map(sum, zip(*turns, strict=True)))
