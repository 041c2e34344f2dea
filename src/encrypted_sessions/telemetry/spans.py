"""Spans: one an operation, and one a call to a provider, linked to the operations that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context, Token
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from keyproviders import ProviderCall

from .._support.terminal import printable
from ..events.shapes import KeysetEvent, SessionEvent
from .bounds import scheme_of
from .names import CONVERSATION, ERROR, KID, OPERATION, PLACE, QUESTION, SCHEME
from .session_names import SessionNames

__all__ = ["Spans"]

#: So many spans may be open. The oldest are of operations whose loop was gone before they ended.
_MOST_OPEN = 10_000


class Spans:
    """A hook for `observe`, one for `observe_calls`, and one that is told of operations that begin.

    A span is current while its operation runs, or its call, so that those of databases and of HTTP are below it.
    """

    def __init__(self, tracer: Tracer, names: SessionNames) -> None:
        self._tracer = tracer
        self._names = names
        self._open: dict[int, tuple[Span, Token[Any]]] = {}

    # Operations.

    def begin(self, sequence: int, operation: str, session: str | None = None) -> None:
        """An operation of that number begins in this task."""
        attributes = {OPERATION: operation}
        name = None if session is None else self._names.name(session)
        if name is not None:
            attributes[CONVERSATION] = name
        span = self._tracer.start_span(f"encrypted_sessions.{operation}", kind=SpanKind.INTERNAL, attributes=attributes)
        if len(self._open) >= _MOST_OPEN:
            del self._open[next(iter(self._open))]
        self._open[sequence] = span, context.attach(trace.set_span_in_context(span))

    def __call__(self, event: Any) -> None:
        """End the span of an operation that has ended. Those of commands begin here, too."""
        if isinstance(event, SessionEvent):
            self._end(event.sequence, event.error)
        elif isinstance(event, KeysetEvent) or type(event).__name__ == "RunEvent":
            if event.phase == "end":
                self._end(event.sequence, event.error)
            else:
                self.begin(event.sequence, f"keys {event.command}" if isinstance(event, KeysetEvent) else event.command)

    def _end(self, sequence: int, error: str | None) -> None:
        span, token = self._open.pop(sequence, (None, None))
        if span is None or token is None:
            return
        # One that was cut off may end in another task than the one in which it began.
        if trace.get_current_span() is span:
            context.detach(token)
        if error is not None:
            span.set_attribute(ERROR, error)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    # Calls to providers.

    def call(self, call: ProviderCall) -> Callable[[BaseException | None], None]:
        """A call to a provider begins in this thread."""
        linked: set[int] = set()
        attributes = {SCHEME: scheme_of(call.place), PLACE: printable(call.place), QUESTION: call.question}
        if call.kid is not None:
            attributes[KID] = call.kid
        span = self._tracer.start_span(
            f"keyproviders.{call.question}",
            context=context.Context(),  # whoever asks first is not the only one who waits
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=[Link(waiter) for waiter in _waiting(call.waiters, linked)],
        )
        token = context.attach(trace.set_span_in_context(span))

        def end(error: BaseException | None) -> None:
            context.detach(token)
            for waiter in _waiting(call.waiters, linked):
                span.add_link(waiter)
            if error is not None:
                span.set_attribute(ERROR, type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
            span.end()

        return end


def _waiting(waiters: list[Context], linked: set[int]) -> Iterator[SpanContext]:
    """The spans of those who wait, without those that are `linked` already."""
    for waiter in list(waiters):
        found = waiter.run(trace.get_current_span).get_span_context()
        if found.is_valid and found.span_id not in linked:
            linked.add(found.span_id)
            yield found
