"""A key provider that answers as a test says, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable

from keyproviders import Key, KeyNotFoundError, KeyRing, RetryPolicy

ACTIVE = "active()"
"""Stands for the question after the active key in `ScriptedKeys.asked` and `fail()`."""


class ScriptedKeys:
    """Keys by name, any of which can be made to fail."""

    place = "scripted keys"

    def __init__(self, active: Key, *older: Key) -> None:
        self.asked: list[str] = []
        self._active = active
        self._keys = {key.name or key.fingerprint: key for key in (active, *older)}
        self._failures: dict[str, Callable[[], Exception]] = {}

    def active(self) -> Key:
        self.asked.append(ACTIVE)
        if failure := self._failures.get(ACTIVE):
            raise failure()
        return self._active

    def get(self, name: str) -> Key:
        self.asked.append(name)
        if failure := self._failures.get(name):
            raise failure()
        if name not in self._keys:
            raise KeyNotFoundError(f"scripted keys: there is no key {name!r}")
        return self._keys[name]

    def fail(self, name: str, kind: type[Exception]) -> None:
        """From now on, answer the question after `name` with an error of this kind."""
        self._failures[name] = lambda: kind(f"scripted keys: {name} answers with {kind.__name__}")

    def work(self, name: str) -> None:
        """Answer the question after `name` again."""
        self._failures.pop(name, None)


def impatient_ring(provider: ScriptedKeys) -> KeyRing:
    """A ring that asks once and does not wait for better times."""
    return KeyRing(provider, retry=RetryPolicy(attempts=1))
