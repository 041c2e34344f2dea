"""What a ring is asked to do, from the question to the answer: written once, for threads and for tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..errors import KeyNotFoundError, KeyProviderError, KeyUnavailableError
from ..key import Key, parse_kid
from .calls import ACTIVE, InFlightCall
from .engine import Engine
from .events import log
from .sources import KeySource
from .waiting import Flow, OneShotEvent

__all__ = ["close", "find", "find_active", "refresh"]


def find_active(engine: Engine) -> Flow[Key]:
    """The key to write with: the one in hand, or the one that the source answers with."""
    with engine.turn() as turn:
        key = engine.use_active(turn)
        if key is not None:
            return key
        age_s = engine.cache.active_age(turn.now)
        call = engine.look_up_active(turn)
    yield from _until_done(engine, call)
    try:
        return call.result()
    except KeyProviderError as error:
        if age_s is not None:
            error.args = (f"{error} (the key that was active was last confirmed {age_s:.0f} s ago: too long to write)",)
        raise


def find(engine: Engine, kid: str) -> Flow[Key]:
    """The key of that kid: the one in hand, or the one that a source has."""
    parts = parse_kid(kid)
    if parts is None:
        raise KeyNotFoundError(
            f"{kid[:128]!r} is no public id of a key (name~fingerprint), so no place was asked for it"
        )
    name, fingerprint = parts
    while True:
        with engine.turn() as turn:
            key = engine.use(turn, fingerprint)
            if key is not None:
                return key
            awaited = engine.look_up(turn, kid, name, fingerprint)
        if isinstance(awaited, InFlightCall):
            yield from _until_done(engine, awaited)
            return awaited.result()
        yield awaited
        if not awaited.is_set():
            with engine.lock:
                raise engine.lookups.not_asked(kid, turn.now)


def refresh(engine: Engine) -> Flow[Key]:
    """The active key, by a call that started after this."""
    with engine.turn():
        engine.refuse_if_closed()
        engine.lookups.forget_negative_entries()
        before = engine.calls.last_number
    while True:
        with engine.turn() as turn:
            engine.refuse_if_closed()
            call = engine.ask_for_active(turn)
        yield from _until_done(engine, call)
        # One that was under way before may have asked before what is to be noticed happened.
        if call.number > before:
            return call.result()


def close(engine: Engine) -> Flow[None]:
    """Forget the keys, wait for calls that run, close the providers."""
    with engine.turn() as turn:
        if engine.closed:
            return
        idle = engine.shut(turn)
    if idle is not None:
        yield idle
    if any(source.closes for source in engine.sources):
        closed = OneShotEvent()
        try:
            engine.workers.submit(partial(_close_sources, engine.sources, closed))
        except RuntimeError:
            # The interpreter is ending. It closes connections by itself, and never waits.
            closed.set()
        yield closed
        if not closed.is_set():
            log.warning("%s: close() left the provider's own close() under way", engine.label)
    with engine.lock:
        left = engine.calls.running
    if left:
        log.warning("%s: close() left calls under way: %s", engine.label, "; ".join(map(str, left)))
    engine.workers.join_idle()


def _close_sources(sources: Sequence[KeySource], closed: OneShotEvent) -> None:
    for source in sources:
        source.close()
    closed.set()


def _until_done(engine: Engine, call: InFlightCall) -> Flow[None]:
    if call.age_s() < engine.deadline_s:
        yield call.done
    if not call.done.is_set():
        question = "which key is active" if call.question == ACTIVE else f"for {call.question}"
        raise KeyUnavailableError(
            f"{engine.label} was asked {question} and did not answer within {engine.deadline_s:g} s;"
            " the call goes on, and its answer will be held when it comes"
        )
