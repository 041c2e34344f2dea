"""A conversation of many turns: each reads the whole history and adds to it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from agents.testing import assistant_message
from measuring import Samples, Table, Taken, in_turn, ms
from subjects import BARE, OURS, SDK, SUBJECTS, all_three

TARGET = 0.9
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
    """What a turn asks of the session: the history, then the question and the answer to keep."""
    question = {"role": "user", "content": _QUESTION}
    answer = assistant_message(_ANSWER, item_id="message-1").model_dump(exclude_unset=True)

    async def turn(_: str, session: Any) -> None:
        await session.get_items()
        await session.add_items([question])
        await session.add_items([answer])

    return turn


_KINDS = (("the session's part", _session_turn), ("with the Runner", _run_turn))


async def measure(*, quick: bool) -> Table:
    table = Table(
        "An agent loop",
        ("turns", *SUBJECTS, "SDK's / bare", "ours / bare", "ours / SDK's", "in CPU time", "target", "met"),
        "A whole conversation over a SQLite file: every turn reads the history and adds a question and an answer."
        " First the calls of the session alone, then the same through `Runner.run` (a model that answers at once,"
        " tracing off), which copies the history several times on every turn, whatever the session. The three"
        " conversations go on side by side, turn by turn.",
    )
    plan = ((50, 1),) if quick else ((50, 7), (200, 3), (400, 1))
    for kind, make_turn in _KINDS:
        for turns, rounds in plan:
            samples = Samples()
            for _ in range(rounds):
                for subject, taken in (await conversations(turns, make_turn())).items():
                    samples.add(subject, taken)
            ratio, label = samples.ratio(OURS, SDK), f"{turns}, {kind}"
            table.add(
                label,
                *(ms(samples.median(subject)) for subject in SUBJECTS),
                f"{samples.ratio(SDK, BARE):.2f}",
                f"{samples.ratio(OURS, BARE):.2f}",
                f"{ratio:.2f}",
                f"{samples.cpu_ratio(OURS, SDK):.2f}",
                *table.judged(label, ratio, TARGET),
            )
    return table


async def conversations(turns: int, turn: Turn) -> dict[str, Taken]:
    """What each subject's conversation took."""
    turns_taken: dict[str, list[Taken]] = {subject: [] for subject in SUBJECTS}
    with tempfile.TemporaryDirectory() as folder:
        async with all_three(folder) as sessions:
            for session in sessions.values():
                await session.get_items()  # opens connections
            for order in in_turn(SUBJECTS, turns):
                for subject in order:
                    start = Taken.since()
                    await turn(subject, sessions[subject])
                    turns_taken[subject].append(Taken.since(start))
            for session in sessions.values():
                assert len(await session.get_items()) == 2 * turns
    return {subject: Taken(*map(sum, zip(*taken, strict=True))) for subject, taken in turns_taken.items()}
