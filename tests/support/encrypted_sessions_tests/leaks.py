"""A sentinel key and a sentinel text, and a net that catches everything that comes out of a test."""

from __future__ import annotations

import base64
import contextlib
import copy
import dataclasses
import logging
import pickle
import secrets
import string
import traceback
import types
from collections.abc import Iterator
from typing import Any, Final

import pytest

from keyproviders import Key

_PACKAGES: Final = ("keyproviders", "encrypted_sessions")

#: A leak need not be whole: logs shorten. So many characters of a sentinel in a row are a leak.
_RAW_PIECE: Final = 8
_ENCODED_PIECE: Final = 12


class Sentinel:
    """Characters that are nowhere but where a test puts them: drawn anew, so that no source line shows them."""

    def __init__(self, length: int, end: str = "") -> None:
        self._hide("".join(secrets.choice(string.ascii_letters) for _ in range(length - len(end))) + end)

    @classmethod
    def of(cls, secret: bytes) -> Sentinel:
        """What somebody else drew."""
        sentinel = cls.__new__(cls)
        sentinel._hide(secret.decode("latin-1"))
        return sentinel

    def _hide(self, text: str) -> None:
        self.text = text
        self.bytes = text.encode("latin-1")
        self._pieces = frozenset(piece for form, size in self.forms() for piece in pieces(form, size))

    def forms(self) -> Iterator[tuple[str, int]]:
        """Each way of writing it, and the length of a piece that gives it away."""
        yield self.text, _RAW_PIECE
        yield repr(self.bytes)[2:-1], _ENCODED_PIECE
        yield self.bytes.hex(), _ENCODED_PIECE
        yield self.bytes.hex().upper(), _ENCODED_PIECE
        yield ", ".join(map(str, self.bytes)), 2 * _ENCODED_PIECE
        for core in base64_cores(self.bytes):
            yield core, _ENCODED_PIECE
            yield core.replace("+", "-").replace("/", "_"), _ENCODED_PIECE

    def found_in(self, shown: str) -> str | None:
        """The first piece of the sentinel that `shown` holds."""
        return next((piece for piece in self._pieces if piece in shown), None)

    def __repr__(self) -> str:
        return f"<a sentinel of {len(self.text)} characters>"


def pieces(form: str, size: int) -> set[str]:
    """All parts of this length."""
    return {form[at : at + size] for at in range(len(form) - size + 1)}


def base64_cores(secret: bytes) -> Iterator[str]:
    """Standard base64 of the secret at each of the three places where it can begin within other bytes."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode("ascii")
        # Only the characters that depend on nothing but the secret.
        yield encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]


class Net:
    """Takes in all that a reader of logs, errors, tracebacks, reprs and pickles would see."""

    def __init__(self) -> None:
        self.key = Sentinel(32, end="\x7f")  # of letters alone it would be warned of, as a sentence
        self.text = Sentinel(40)
        self.others: list[Sentinel] = []
        self.caught: list[tuple[str, str]] = []

    # -- The sentinels in the shapes that the library takes ---------------------------------

    @property
    def secret(self) -> bytes:
        """The sentinel key's 32 bytes."""
        return self.key.bytes

    @property
    def key_text(self) -> str:
        """The sentinel key as a user writes it: urlsafe base64."""
        return base64.urlsafe_b64encode(self.key.bytes).decode("ascii")

    def master(self, name: str | None = "sentinel") -> Key:
        """The sentinel key."""
        return Key(name, self.key.bytes)

    def item(self, **more: Any) -> dict[str, Any]:
        """An item that says the sentinel text."""
        return {"role": "user", "content": self.text.text, **more}

    def also(self, secret: bytes) -> None:
        """Look for this too, which somebody else drew, also in what came out before."""
        self.others.append(Sentinel.of(secret))

    # -- What is seen -----------------------------------------------------------------------

    def add(self, where: str, shown: str) -> None:
        """Something that a reader sees."""
        self.caught.append((where, shown))

    def see(self, thing: object) -> None:
        """An object as anybody can look at it: shown, taken apart, copied and pickled."""
        kind = type(thing).__name__
        self.add(f"repr of {kind}", repr(thing))
        self.add(f"str of {kind}", f"{thing!s} {thing}")
        with contextlib.suppress(TypeError):
            self.add(f"vars of {kind}", repr(vars(thing)))
        for name, value in parts(thing):
            self.add(f"{kind}.{name}", repr(value))
        with contextlib.suppress(TypeError):
            self.add(f"asdict of {kind}", repr(dataclasses.asdict(thing)))  # type: ignore[call-overload]  # tried
        for copied in (copy.copy, copy.deepcopy):
            try:
                self.add(f"{copied.__name__} of {kind}", repr(copied(thing)))
            except Exception as error:  # noqa: BLE001 - a refusal is shown too
                self._see_error(error)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            self.pickled(thing, protocol)

    def pickled(self, thing: object, protocol: int = pickle.HIGHEST_PROTOCOL) -> None:
        """A pickle, if one comes out."""
        try:
            self.add(f"pickle of {type(thing).__name__}", pickle.dumps(thing, protocol).decode("latin-1"))
        except Exception as error:  # noqa: BLE001 - a refusal is shown too
            self._see_error(error)

    @contextlib.contextmanager
    def raises(self, *kinds: type[BaseException]) -> Iterator[None]:
        """The block raises one of these, and all of the error is seen."""
        try:
            yield
        except kinds as error:
            self._see_error(error)
            self.pickled(error)
        else:
            pytest.fail(f"nothing raised {' or '.join(kind.__name__ for kind in kinds)}")

    def _see_error(self, error: BaseException) -> None:
        self.add("traceback", "".join(traceback.format_exception(error)))
        for one in chain(error):
            kind = type(one).__name__
            self.add(f"{kind}", f"{one} {one!r} {one.args!r} {getattr(one, '__notes__', '')!r}")
            self.add(f"vars of {kind}", repr(vars(one)))
            for place, name, value in our_locals(one):
                self.add(f"{name} in {place}, in the traceback of {kind}", value)

    def log_record(self, record: logging.LogRecord) -> None:
        """One record of any logger, at any level."""
        self.add(f"log of {record.name}", f"{record.getMessage()} {record.args!r} {record.__dict__!r}")
        if record.exc_info and record.exc_info[1] is not None:
            self._see_error(record.exc_info[1])

    def leaks(self) -> list[str]:
        """Where a piece of a sentinel came out, each place once."""
        together = "\0".join({shown for _, shown in self.caught})
        sentinels = (self.key, self.text, *self.others)
        if not any(sentinel.found_in(together) for sentinel in sentinels):
            return []
        found: dict[str, str] = {}
        for where, shown in self.caught:
            for sentinel in sentinels:
                piece = sentinel.found_in(shown)
                if piece is not None:
                    found.setdefault(where, f"{where}: {piece!r} in {shown[:400]!r}")
        return list(found.values())


def chain(error: BaseException) -> list[BaseException]:
    """An error with all that it refers to, also where a traceback would not show it."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is known for known in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


def our_locals(error: BaseException) -> Iterator[tuple[str, str, str]]:
    """The local variables of our packages' frames, as an error tracker would record them."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in _PACKAGES:
            for name, value in frame.f_locals.items():
                yield f"{module}.{frame.f_code.co_name}", name, shown_local(value)


def shown_local(value: object) -> str:
    """Its repr. One that raises would break the tracker, so ours may not."""
    try:
        return repr(value)
    except Exception:
        if type(value).__module__.partition(".")[0] in _PACKAGES:
            raise
        return f"<{type(value).__name__} whose repr fails>"


def parts(thing: object, depth: int = 3) -> Iterator[tuple[str, object]]:
    """What lies in an object's attributes, slots and containers, some levels down.

    Looked into are objects of ours that hide nothing by being asked: a Key's own slots are the one
    place where a secret has to be, and what a caller holds on purpose (its items) is no leak.
    """
    if depth == 0 or isinstance(thing, (Key, str, bytes, types.ModuleType, type)):
        return
    for name, value in getattr(thing, "__dict__", {}).items():
        yield name, value
        if type(value).__module__.partition(".")[0] in _PACKAGES:
            for below, inner in parts(value, depth - 1):
                yield f"{name}.{below}", inner
