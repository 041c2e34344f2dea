"""Asking one source of keys, or several in order, and checking that what comes back is the key asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..errors import (
    InvalidKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyUnavailableError,
    ProviderConfigError,
)
from ..key import Key
from ..provider import KeyProvider
from .events import log

__all__ = ["KeyLookup", "KeySource"]


class KeySource:
    """A provider as the ring asks it: with a label, its answers checked, and ready after a fork.

    `writes_for_s` is how long the ring may go on writing with a key that is active no longer;
    `asks_every_s` how long it goes on with an answer before it asks again: for the active key, and
    for another one.
    """

    def __init__(self, provider: KeyProvider, asks_every_s: tuple[float, float], *, writes_for_s: float = 0.0) -> None:
        self._provider = provider
        expect = getattr(provider, "expect", None)
        if callable(expect):
            expect(*asks_every_s)
        self._writes_for_s = writes_for_s
        label = getattr(provider, "place", None)
        self.label = label if isinstance(label, str) and label else type(provider).__name__
        self._renewing = threading.Lock()
        self._forked = False

    def active(self) -> Key:
        """The provider's active key. One call; raises what the provider raises."""
        self._be_ready()
        key = self._checked(self._provider.active(), "active()")
        self._refuse_early_rotation()
        return key

    def get(self, name: str) -> Key:
        """The provider's key of that name. One call; raises what the provider raises."""
        self._be_ready()
        return self._checked(self._provider.get(name), f"get({name!r})")

    @property
    def closes(self) -> bool:
        """Whether the provider has anything to close."""
        return callable(getattr(self._provider, "close", None))

    def close(self) -> None:
        """Close the provider; its failure ends in the log."""
        try:
            closing = getattr(self._provider, "close", None)
            if callable(closing):
                closing()
        except Exception as error:  # noqa: BLE001 - it is over either way
            log.warning("closing %s failed: %s", self.label, type(error).__name__)

    def after_fork(self) -> None:
        """This process is a child: the provider's connections are its parent's."""
        self._renewing = threading.Lock()
        self._forked = True

    def _be_ready(self) -> None:
        # Not in the fork itself, where an error reaches nobody: before the first call, and again
        # before the next one if it fails.
        if self._forked:
            with self._renewing:
                if self._forked:
                    renew = getattr(self._provider, "after_fork", None)
                    if callable(renew):
                        renew()
                    self._forked = False

    def _refuse_early_rotation(self) -> None:
        # Known after the first answer, and only where keys become active at a time of their own.
        delay_s = getattr(self._provider, "activation_delay_s", None)
        if isinstance(delay_s, (int, float)) and self._writes_for_s > delay_s:
            raise ProviderConfigError(
                f"{self.label}: this ring may go on writing with a key for {self._writes_for_s:g} s after another one"
                f" became active (fresh_s + stale_write_s + 60 of its CachePolicy), and the keyset counts on"
                f" {delay_s:g} s (its activation delay); lower these, or make a keyset with a longer --activation-delay"
            )

    def _checked(self, answer: object, question: str) -> Key:
        if not isinstance(answer, Key):
            raise InvalidKeyError(
                f"{self.label} answered {question} with a {type(answer).__name__}, not with a Key; this is a mistake"
                " in the provider"
            )
        return answer


class KeyLookup:
    """One look-up of a key among sources that are asked in order.

    Each call of the object asks every source that has not given a final answer yet, until one has
    the key. When none has it, it raises, in this order of preference:

    - the error of a source that could not answer: as long as one is unknown, nothing is known;
    - KeyDisabledError, then KeyDestroyedError, when a source said so;
    - KeyNotFoundError, when all said so.

    So it can be called again after KeyUnavailableError, and asks only those that were unavailable.
    """

    def __init__(self, sources: Sequence[KeySource], name: str | None, fingerprint: str) -> None:
        self._unanswered = list(sources)
        self._asked_for = name if name is not None else fingerprint
        self._fingerprint = fingerprint
        self._kid = f"{name or ''}~{fingerprint}"
        self._failed: list[Exception] = []
        self._missing: list[KeyNotFoundError] = []

    def __call__(self) -> Key:
        """Ask. Raises as said above."""
        sources, self._unanswered = self._unanswered, []
        unavailable: list[KeyUnavailableError] = []
        for source in sources:
            try:
                return self._ask(source)
            except KeyNotFoundError as error:
                self._missing.append(error)
            except KeyUnavailableError as error:
                unavailable.append(error)
                self._unanswered.append(source)
            except Exception as error:  # noqa: BLE001 - another source may still have the key
                self._failed.append(error)
        raise (*unavailable, *self._failed, *sorted(self._missing, key=_rank))[0]

    def _ask(self, source: KeySource) -> Key:
        key = source.get(self._asked_for)
        if key.fingerprint != self._fingerprint:
            message = (
                f"{source.label} has another key under the name {self._asked_for!r}: this name now means another key"
                f" ({key.kid}, not {self._kid}); put the former key back under a name of its own, or what was"
                " sealed with it cannot be read"
            )
            log.error("%s", message)
            raise KeyNotFoundError(message)
        return key


def _rank(error: KeyNotFoundError) -> int:
    # Disabled before destroyed: what may come back must not be given up.
    if isinstance(error, KeyDisabledError):
        return 0
    return 1 if isinstance(error, KeyDestroyedError) else 2
