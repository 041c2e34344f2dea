"""What hooks get when a provider is called. Imported when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from contextvars import Context

__all__ = ["ProviderCall"]


class ProviderCall(NamedTuple):
    """The start of one call to a provider: one attempt, at one of the ring's places of keys.

    Attributes:
        place: The place of keys that is asked, as it describes itself.
        question: "active", "get" or "names".
        kid: The public id of the key that is looked up; None for other questions.
        waiters: The contexts (of `contextvars`) of the callers that wait for the answer. More may join until it
            comes. Nobody waits for a background call.
    """

    place: str
    question: str
    kid: str | None
    waiters: list[Context]
