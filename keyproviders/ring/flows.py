"""What a ring is asked to do, from the question to the answer: written once, for threads and for tasks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from math import inf

from ..errors import KeyNotFoundError, KeyProviderError, KeyUnavailableError
from ..key import Key, parse_kid
from .call_hooks import waits_for
from .calls import ACTIVE, NAMES, InFlightCall
from .engine import LISTING, Engine
from .events import log
from .sources import KeySource
from .waiting import Flow, OneShotEvent

__all__ = ["close", "find", "find_active", "list_kids", "refresh"]

# So long the use of a key waits that nobody has used, or asked for, in a long time.
_ASK_FIRST_S = 3.0


def find_active(engine: Engine) -> Flow[Key]:
    """The key to write with: the one in hand, or the one that the source answers with."""
    with engine.turn() as turn:
        key = engine.use_active(turn)
        if key is not None:
            return key
        age_s = engine.cache.active_age(turn.now)
        call = engine.look_up_active(turn)
        waits_for(call)
    yield from _until_done(engine, call)
    try:
        return call.result()
    except KeyProviderError as error:
        if age_s is not None:
            error.args = (
                f"{error} (the key that was active was last confirmed {age_s:.0f} s ago: too long ago to write)",
            )
        raise


def find(engine: Engine, kid: str, asker: str | None, wait_s: float) -> Flow[Key]:
    """The key of that kid: the one in hand, or the one that a source has."""
    parts = parse_kid(kid)
    if parts is None:
        raise KeyNotFoundError(
            f"{kid[:128]!r} is not the public id of a key (name~fingerprint), so no place of keys was asked for it"
        )
    try:
        return (yield from _find(engine, kid, parts, asker, wait_s))
    except KeyNotFoundError as error:
        with engine.lock:
            held = engine.cache.held_as(parts[1])
        if parts[0] is not None and held is not None and type(error) is KeyNotFoundError:
            hint = (
                f"the key with the fingerprint {parts[1]} is held as {held}; if that row is yours,"
                f" list the key under the name {parts[0]!r} too"
            )
            error.args = (f"{error} ({hint})",)
        raise


def _find(engine: Engine, kid: str, parts: tuple[str | None, str], asker: str | None, wait_s: float) -> Flow[Key]:
    listed = False
    before: int | None = None
    while True:
        with engine.turn() as turn:
            if before is None:
                before = engine.calls.last_number
            found = engine.use(turn, kid)
            if isinstance(found, Key):
                return found
            if found is None:
                lookup = engine.lookup(turn, kid, *parts, listed=listed)
                if wait_s == 0:
                    raise engine.not_asked(kid)
                call = engine.look_up(turn, lookup, asker, listed=listed)
            else:
                call = found
            waits_for(call)
        if found is not None:
            yield found.done, _ASK_FIRST_S
            with engine.turn() as turn:
                engine.cache.asked_first(kid, turn.now, answered=found.done.is_set())
            continue
        yield from _until_looked_up(engine, call, kid, asker, wait_s)
        if call.question == NAMES:
            # One that was under way before may have been read before the key was there.
            listed = call.number > before
        elif call.kid == kid or not call.is_answer:
            return call.result()


def refresh(engine: Engine) -> Flow[Key]:
    """The active key, by a call that started after this."""
    with engine.turn():
        engine.refuse_if_closed()
        for names in engine.names:
            names.forget()
        before = engine.calls.last_number
    while True:
        with engine.turn() as turn:
            engine.refuse_if_closed()
            call = engine.ask_for_active(turn)
            waits_for(call)
        yield from _until_done(engine, call)
        # One that was under way before may have asked before what is to be noticed happened.
        if call.number > before:
            return call.result()


def list_kids(engine: Engine) -> Flow[tuple[str, ...]]:
    """The public ids of all keys of those sources that list theirs, read after this."""
    with engine.lock:
        before = engine.calls.last_number
    while any(source.lists_names for source in engine.sources):
        with engine.turn() as turn:
            engine.refuse_if_closed()
            call = engine.list_names(turn)
            waits_for(call)
        yield from _until_looked_up(engine, call, "its names", LISTING, engine.deadline_s)
        if call.number > before:
            break
    with engine.lock:
        engine.refuse_if_closed()
        kids = dict.fromkeys(kid for names in engine.names for kid in names.kids())
    # Some places answer for a fingerprint alone as well.
    named = {kid.rpartition("~")[2] for kid in kids if kid[0] != "~"}
    return tuple(kid for kid in kids if kid[0] != "~" or kid[1:] not in named)


def close(engine: Engine) -> Flow[None]:
    """Forget the keys, wait for calls that run, close the providers."""
    with engine.turn() as turn:
        if engine.closed:
            return
        idle = engine.shut(turn)
    if idle is not None:
        yield idle, inf
    if any(source.closes for source in engine.sources):
        closed = OneShotEvent()
        try:
            engine.workers.submit(partial(_close_sources, engine.sources, closed))
        except RuntimeError:
            # The interpreter is ending. It closes connections by itself, and never waits.
            closed.set()
        yield closed, inf
        if not closed.is_set():
            log.warning("%s: close() returned while the provider's own close() was still running", engine.label)
    with engine.lock:
        left = engine.calls.running
    if left:
        log.warning("%s: close() returned while calls were still running: %s", engine.label, "; ".join(map(str, left)))
    engine.workers.join_idle()


def _close_sources(sources: Sequence[KeySource], closed: OneShotEvent) -> None:
    for source in sources:
        source.close()
    closed.set()


def _until_looked_up(engine: Engine, call: InFlightCall, kid: str, asker: Hashable, wait_s: float) -> Flow[None]:
    asked = True
    try:
        if call.age_s() < engine.deadline_s:
            yield call.done, inf
    finally:
        if not call.done.is_set():
            with engine.lock:
                asked = engine.calls.leave(call, asker)
    if not call.done.is_set():
        if asked:
            raise _no_answer(engine, call, wait_s)
        with engine.lock:
            raise engine.not_asked(kid)


def _until_done(engine: Engine, call: InFlightCall) -> Flow[None]:
    if call.age_s() < engine.deadline_s:
        yield call.done, inf
    if not call.done.is_set():
        raise _no_answer(engine, call, engine.deadline_s)


def _no_answer(engine: Engine, call: InFlightCall, waited_s: float) -> KeyUnavailableError:
    question = {ACTIVE: "which key is active", NAMES: "for its names"}.get(call.question, f"for {call.kid}")
    return KeyUnavailableError(
        f"{engine.label} was asked {question} and did not answer within {waited_s:g} s;"
        " the call continues, and its answer will be kept when it arrives"
    )
