"""Turning it on, and off again."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from keyproviders import KeyRing, observe_calls, redact_frames

from ..events.beginnings import observe_beginnings
from ..events.observing import observe
from ..events.pseudonyms import SessionIds, checked_session_ids
from .bounds import RingNames
from .gauges import Gauges
from .metrics import Metrics
from .names import SCOPE
from .session_names import SessionNames
from .spans import Spans

__all__ = ["EncryptedSessionsInstrumentor", "instrument"]

logger = logging.getLogger("encrypted_sessions")

_lock = threading.Lock()
_stop: Callable[[], None] | None = None
_given: tuple[object, ...] = ()
# What a meter has stays with it, so it is made once for each.
_gauges: WeakKeyDictionary[MeterProvider, Gauges] = WeakKeyDictionary()


def _unlock_in_child() -> None:
    global _lock  # noqa: PLW0603 - a forked child is another process
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


@redact_frames
def instrument(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    spans: bool = False,
    session_ids: Literal["omitted", "hashed", "plain"] = "omitted",
    pseudonym_keys: KeyRing | str | None = None,
) -> Callable[[], None]:
    """Turn on metrics, and spans if wanted, for the sessions, rings, maintenance and keysets of this process.

    If it is called again while it is on, it changes nothing and returns the same function.

    Args:
        meter_provider: Where metrics go; by default the application's global provider.
        tracer_provider: Where spans go; by default the application's global provider.
        spans: Whether to make spans: one per operation, and one per call to a key provider.
        session_ids: What spans have as `gen_ai.conversation.id`: nothing ("omitted"), a pseudonym ("hashed"), or the
            session's id ("plain"). Metrics never have it.
        pseudonym_keys: For "hashed", a key ring that is used for nothing else, or its URL. Its key is fetched in the
            background; until then, spans have no `gen_ai.conversation.id`.

    Returns:
        A function without arguments that turns it off.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
        ProviderConfigError: `pseudonym_keys` is a URL that no provider reads.
    """
    global _stop, _given
    _check(meter_provider, MeterProvider, "meter_provider")
    _check(tracer_provider, TracerProvider, "tracer_provider")
    if not isinstance(spans, bool):
        raise TypeError(f"spans must be a bool, not {type(spans).__name__}")
    checked = checked_session_ids(session_ids, pseudonym_keys)
    given = (meter_provider, tracer_provider, spans, checked, pseudonym_keys)
    with _lock:
        if _stop is None:
            _stop, _given = _start(*given), given
        elif given not in (_given, (None, None, False, "omitted", None)):
            logger.warning("telemetry is on already, and keeps its first settings; stop it before you change them")
        return _stop


def _start(
    meter_provider: MeterProvider | None,
    tracer_provider: TracerProvider | None,
    spans: bool,  # noqa: FBT001 - as `instrument` was given it
    session_ids: SessionIds,
    pseudonym_keys: KeyRing | str | None,
) -> Callable[[], None]:
    sessions = SessionNames(session_ids, pseudonym_keys)
    meters = metrics.get_meter_provider() if meter_provider is None else meter_provider
    meter = metrics.get_meter(SCOPE, _version(), meters)
    names = RingNames()
    counted = Metrics(meter, names)
    gauges = _gauges.get(meters)
    if gauges is None:
        gauges = _gauges[meters] = Gauges(meter)
    gauges.names = names
    ends = [observe(counted), observe_calls(counted.call)]
    if spans:
        traced = Spans(trace.get_tracer(SCOPE, _version(), tracer_provider), sessions)
        ends += [observe_beginnings(traced.begin), observe(traced), observe_calls(traced.call)]

    def stop() -> None:
        global _stop  # noqa: PLW0603 - as above
        with _lock:
            if _stop is not stop:
                return
            _stop = None
        gauges.names = None
        for end in ends:
            end()
        sessions.close()

    return stop


def _version() -> str:
    try:
        return version("encrypted-sessions")
    except PackageNotFoundError:  # run from its sources
        return ""


def _check(given: object, kind: type, argument: str) -> None:
    if given is not None and not isinstance(given, kind):
        raise TypeError(f"{argument} must be a {kind.__name__} or None, not {type(given).__name__}")


class EncryptedSessionsInstrumentor:
    """What `opentelemetry-instrument` finds by its entry point: only metrics, unless more is configured.

    It is not a `BaseInstrumentor`, which would need a package beside the API, but is used as one.
    """

    def instrument(self, **kwargs: Any) -> None:
        """The same as `instrument()`, with its arguments; arguments for other instrumentors are ignored."""
        known = ("meter_provider", "tracer_provider", "spans", "session_ids", "pseudonym_keys")
        instrument(**{name: value for name, value in kwargs.items() if name in known})

    def uninstrument(self, **_: Any) -> None:
        """Turn it off, no matter who turned it on."""
        stop = _stop
        if stop is not None:
            stop()

    def instrumentation_dependencies(self) -> Collection[str]:
        """What it needs beside the API: nothing."""
        return ()

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is on."""
        return _stop is not None
