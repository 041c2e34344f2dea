"""Both suites, beside the SDK's class and beside Fernet with json: in processor time, the best of several rounds."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any
from unittest import mock

from cryptography.fernet import Fernet
from measuring import Samples, Table, Taken, in_turn
from subjects import SDK, SESSION, TTL, add_and_get, message, session_of

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.core import exact_json
from encrypted_sessions.core.cipher import SessionCipher
from encrypted_sessions.core.envelope import Envelope, parse_row
from encrypted_sessions.core.suites import aes_gcm_v2, fernet_v1
from encrypted_sessions_tests.stores import StoreLocation, open_store
from keyproviders.local import StaticKeyProvider

TINK = "Tink with AES-256-GCM and json"
ONE, TWO, PURE = "suite 1", "suite 2", "suite 2 without pydantic_core"
_SUITES = {ONE: 1, TWO: 2, PURE: 2}
_SUBJECTS = (SDK, *_SUITES)
_BATCH, _ROUNDS = 200, 15

#: size, and targets of each for get_items and for add_items
_KINDS: tuple[tuple[str, int, dict[str, float], dict[str, float]], ...] = (
    ("200 B", 200, {ONE: 0.62, TWO: 0.35, PURE: 0.7}, {ONE: 0.95, TWO: 0.8, PURE: 0.9}),
    ("1 KiB", 1024, {ONE: 0.60, TWO: 0.35, PURE: 0.7}, {ONE: 0.95, TWO: 0.8, PURE: 0.9}),
    ("4 KiB", 4096, {ONE: 0.45, TWO: 0.35, PURE: 0.7}, {ONE: 0.95, TWO: 0.8, PURE: 0.9}),
    ("20 KiB", 20_480, {ONE: 0.45, TWO: 0.35, PURE: 0.7}, {ONE: 0.95, TWO: 0.8, PURE: 0.9}),
)
_SEAL, _OPEN = {ONE: 0.95, TWO: 0.39}, {ONE: 0.45, TWO: 0.27}
_NOW = 1_800_000_000


async def measure(*, quick: bool) -> Table:
    """Sealing and opening by the suites alone, then `get_items` and `add_items` of 200 items."""
    rounds = 3 if quick else _ROUNDS
    table = Table(
        "Suites",
        ("what", *(cell for name in _SUITES for cell in (name, "target", "met"))),
        "Processor time, the minimum of several rounds, as a fraction of the reference: Fernet with json for one"
        " item of 1 KiB by the suite alone, the SDK's class for 200 items over a SQLite file.",
    )
    sealing, opening = _alone(rounds)
    if _tink() is not None:
        ratios = [samples.least_cpu(TINK) / samples.least_cpu(SDK) for samples in (sealing, opening)]
        table.note += " In the same run, {} took {:.2f} to seal and {:.2f} to open.".format(TINK, *ratios)
    _add(table, "seal 1 KiB, alone", sealing, _SEAL)
    _add(table, "open 1 KiB, alone", opening, _OPEN)
    for name, size, most_to_get, most_to_add in _KINDS:
        got, added = await _in_sessions(message(size), rounds)
        _add(table, f"{name}, get_items", got, most_to_get)
        _add(table, f"{name}, add_items", added, most_to_add)
    return table


def _add(table: Table, label: str, samples: Samples, targets: dict[str, float]) -> None:
    cells: list[str] = []
    for name in _SUITES:
        ratio = samples.least_cpu(name) / samples.least_cpu(SDK)
        target = targets.get(name)
        judged = ("-", "-") if target is None else table.judged(f"{label}, {name}", ratio, target)
        cells += [f"{ratio:.2f}", *judged]
    table.add(label, *cells)


@contextlib.contextmanager
def _as(subject: str) -> Iterator[None]:
    """With `pydantic_core`, or as if it were not installed."""
    with contextlib.ExitStack() as stack:
        if subject == PURE:
            for module in (exact_json, fernet_v1, aes_gcm_v2):
                stack.enter_context(mock.patch.object(module, "accelerator", _not_installed))
        yield


def _not_installed() -> None:
    """What `accelerator` gives then; a mock would take longer than what is measured."""


def _alone(rounds: int) -> tuple[Samples, Samples]:
    item, fernet = message(1024), Fernet(Fernet.generate_key())
    token = fernet.encrypt(json.dumps(item).encode())
    seals: dict[str, Callable[[], object]] = {SDK: lambda: fernet.encrypt(json.dumps(item).encode())}
    opens: dict[str, Callable[[], object]] = {SDK: lambda: json.loads(fernet.decrypt(token))}
    for name, suite in _SUITES.items():
        seals[name], opens[name] = _by_suite(item, suite)
    peer = _tink()
    if peer is not None:
        sealed = peer.encrypt(json.dumps(item).encode(), b"")
        seals[TINK] = lambda: peer.encrypt(json.dumps(item).encode(), b"")
        opens[TINK] = lambda: json.loads(peer.decrypt(sealed, b""))
    sealing, opening = Samples(), Samples()
    for order in in_turn(tuple(seals), rounds):
        for subject in order:
            with _as(subject):
                sealing.add(subject, _repeated(seals[subject]))
                opening.add(subject, _repeated(opens[subject]))
    return sealing, opening


@cache
def _tink() -> Any:
    """Tink's AES-256-GCM, where somebody has installed it; its wheels are not there for each Python."""
    try:
        tink, aead = import_module("tink"), import_module("tink.aead")
    except ImportError:
        return None
    aead.register()
    return tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)


def _by_suite(item: dict[str, Any], suite: int) -> tuple[Callable[[], object], Callable[[], object]]:
    cipher = SessionCipher(bytes(range(32)), SESSION, "bench~00112233", "", suite)
    row = json.dumps(cipher.seal(item, _NOW, _NOW + TTL)).encode()
    opener = cipher.opener(suite)

    def open_row() -> object:
        envelope = parse_row(row)
        assert isinstance(envelope, Envelope)
        return opener.open(envelope)

    return lambda: cipher.seal(item, _NOW, _NOW + TTL), open_row


def _repeated(work: Callable[[], object], times: int = 1_000) -> Taken:
    start = Taken.since()
    for _ in range(times):
        work()
    return Taken.since(start)


async def _in_sessions(item: dict[str, Any], rounds: int) -> tuple[Samples, Samples]:
    got, added, key = Samples(), Samples(), Key.generate("bench")
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as stack:
            sessions: dict[str, Any] = {}
            for number, subject in enumerate(_SUBJECTS):
                place = StoreLocation("sqlite", f"{folder}/{number}.db", f"s{number}")
                store = await stack.enter_async_context(open_store(place, SESSION))
                if subject == SDK:
                    sessions[subject] = session_of(SDK, store, key)
                else:
                    ring = KeyRing(StaticKeyProvider(key))
                    sessions[subject] = EncryptedSession.wrap(store, ring, ttl=TTL, suite=_SUITES[subject])
            for order in in_turn(_SUBJECTS, rounds):
                for subject in order:
                    with _as(subject):
                        add, get = await add_and_get(sessions[subject], [item] * _BATCH)
                    added.add(subject, add)
                    got.add(subject, get)
    return got, added
