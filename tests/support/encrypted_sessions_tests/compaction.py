"""Conversations that are compacted: by the SDK's compaction session, with a scripted compaction service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner
from agents.memory import OpenAIResponsesCompactionSession
from agents.testing import ScriptedModel, assistant_message

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.stores import Row, StoreLocation

__all__ = [
    "CHAT",
    "MARK",
    "SUMMARY",
    "Chat",
    "Compactor",
    "agent_that_says",
    "assert_sealed",
    "compacting",
    "open_chat",
    "questions",
    "run",
    "say",
    "texts_of",
]

MARK = "quokka"
CHAT = "chat"

SUMMARY = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"{MARK} kept question"}]},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": f"{MARK} summary"},
]


class Compactor:
    """Stands for the OpenAI client: `responses.compact` gives SUMMARY."""

    def __init__(self, meanwhile: Callable[[], Awaitable[Any]] | None = None) -> None:
        self.responses = self
        self.requests: list[dict[str, Any]] = []
        self._meanwhile = meanwhile

    async def compact(self, **request: Any) -> Any:
        self.requests.append(request)
        if self._meanwhile is not None:
            await self._meanwhile()
        return SimpleNamespace(output=SUMMARY, usage=None)


class Chat:
    """One encrypted session that can compact, and the place where its rows lie.

    `session` is what an application talks to: the compaction session around the encrypted one, or the
    encrypted one around the compaction session that lies `beneath`.
    """

    def __init__(
        self,
        place: StoreLocation,
        encrypted: EncryptedSession,
        compactor: Compactor,
        ring: KeyRing,
        beneath: OpenAIResponsesCompactionSession | None = None,
    ) -> None:
        self.place = place
        self.encrypted = encrypted
        self.compactor = compactor
        self.ring = ring
        self.beneath = beneath
        self.session: Any = encrypted if beneath is not None else compacting(encrypted, compactor)

    async def rows(self) -> list[Row]:
        return await stores.raw_rows(self.place, CHAT)

    async def elsewhere(self, *texts: str) -> None:
        """Append from another process: other objects over the same rows."""
        async with stores.open_store(self.place, CHAT) as store:
            await EncryptedSession(CHAT, store, self.ring).add_items(questions(*texts))


def compacting(session: Any, compactor: Any) -> OpenAIResponsesCompactionSession:
    return OpenAIResponsesCompactionSession(
        CHAT, session, client=compactor, should_trigger_compaction=lambda _: True, compaction_mode="input"
    )


@asynccontextmanager
async def open_chat(
    kind: str,
    request: pytest.FixtureRequest,
    *,
    meanwhile: Callable[[], Awaitable[Any]] | None = None,
    is_beneath: bool = False,
    **options: Any,
) -> AsyncIterator[Chat]:
    """A chat over a store of this kind; `meanwhile` happens while the compaction service thinks."""
    place = stores.new_place(kind, request)
    async with stores.open_store(place, CHAT) as store, KeyRing.ephemeral() as ring:
        compactor = Compactor(meanwhile)
        beneath = compacting(store, compactor) if is_beneath else None
        encrypted = EncryptedSession(CHAT, store if beneath is None else beneath, ring, **options)
        yield Chat(place, encrypted, compactor, ring, beneath)


def questions(*texts: str) -> list[Any]:
    return [{"role": "user", "content": f"{MARK} {text}"} for text in texts]


def say(text: str) -> Any:
    return assistant_message(f"{MARK} {text}", item_id=f"msg_{text.replace(' ', '_')}")


def agent_that_says(*answers: Any, **settings: Any) -> Agent[Any]:
    return Agent(
        f"{MARK} desk", model=ScriptedModel([[say(a)] if isinstance(a, str) else a for a in answers]), **settings
    )


async def run(agent: Agent[Any], text: str, session: Any, **settings: Any) -> Any:
    return await Runner.run(
        agent, f"{MARK} {text}", session=session, run_config=RunConfig(tracing_disabled=True, **settings)
    )


def texts_of(items: list[Any]) -> str:
    return json.dumps(items)


async def assert_sealed(place: StoreLocation) -> None:
    """Nothing lies at rest but envelopes."""
    rows = await stores.raw_rows(place, CHAT)
    assert all(set(json.loads(row)) == {"__enc__", "v", "kid", "payload"} for row in rows)
    at_rest = (await stores.everything_at_rest(place)).lower()
    for plaintext in (MARK, "cmp_1", '"role"', "encrypted_content"):
        assert plaintext.encode() not in at_rest
