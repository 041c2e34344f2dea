"""Asking one source of keys, or several in order, and checking that what comes back is the key asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from .._support.strictness import is_strict
from ..errors import (
    InvalidKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyUnavailableError,
    ProviderConfigError,
)
from ..key import Key
from ..key_strength import check_strength
from ..provider import KeyProvider
from .call_hooks import calling
from .events import log

__all__ = ["KeyLookup", "KeySource", "another_key"]


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
        #: Whether the source says by itself which names it has.
        self.lists_names = callable(getattr(provider, "names", None))
        #: Whether a name that it once had can mean no other key elsewhere, so that its end is an end.
        self.names_are_unique = getattr(provider, "names_are_unique", True) is not False
        self._warned: set[str] = set()
        self._renewing = threading.Lock()
        self._forked = False
        self._strict = is_strict()

    def active(self) -> Key:
        """The provider's active key. One call; raises what the provider raises."""
        with calling(self.label, "active"):
            self._be_ready()
            key = self._checked(self._provider.active(), "active()")
            check_strength(key, self.label, active=True, strict=self._strict)
            self._refuse_early_rotation()
            return key

    def get(self, name: str) -> Key:
        """The provider's key of that name. One call; raises what the provider raises."""
        with calling(self.label, "get"):
            self._be_ready()
            key = self._checked(self._provider.get(name), f"get({name!r})")
            check_strength(key, self.label, active=False, strict=self._strict)
            return key

    def warn_once(self, name: str, message: str) -> None:
        """Say something about a name that the source has, and not again: rows may ask for it as often as they like."""
        if name not in self._warned:
            self._warned.add(name)
            log.warning("%s", message)

    def names(self) -> Mapping[str, str | None] | None:
        """All names that the provider would answer for, with fingerprints where it has them; None if it fails."""
        try:
            with calling(self.label, "names"):
                self._be_ready()
                listed = self._provider.names()  # type: ignore[attr-defined] # optional; `lists_names` says that it is there
        except Exception:  # noqa: BLE001 - whatever it is, get() meets it too, and says so where it is heard
            return None
        return dict(listed) if isinstance(listed, Mapping) else None

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
                f"{self.label}: this ring may keep writing with a key for {self._writes_for_s:g} s after another"
                f" one became active (fresh_s + stale_write_s + 60 of its CachePolicy), but the keyset allows"
                f" {delay_s:g} s (its activation delay); lower these settings, or make a keyset with a longer"
                " --activation-delay"
            )

    def _checked(self, answer: object, question: str) -> Key:
        if not isinstance(answer, Key):
            raise InvalidKeyError(
                f"{self.label} answered {question} with a {type(answer).__name__} instead of a Key;"
                " this is a bug in the provider"
            )
        return answer


class KeyLookup:
    """One look-up of a key among sources that are asked in order.

    Each call of the object asks every source that has not given a final answer yet, until one has
    the key. What one says of a key's end (disabled, destroyed) ends the look-up, unless its names may
    mean other keys elsewhere. When none has the key, it raises, in this order of preference:

    - the error of a source that could not answer: as long as one is unknown, nothing is known;
    - KeyDisabledError, then KeyDestroyedError, when a source said so;
    - KeyNotFoundError, when all said so.

    So it can be called again after KeyUnavailableError, and asks only those that were unavailable.

    `known` is what is known of each source without asking: why it does not have the key, or None.
    `was_held` says that the key was there before.
    """

    def __init__(
        self,
        sources: Sequence[KeySource],
        kid: str,
        name: str | None,
        fingerprint: str,
        known: Sequence[KeyNotFoundError | None] = (),
        *,
        was_held: bool = False,
    ) -> None:
        self.kid = kid
        self.asked_for = name if name is not None else fingerprint
        #: What the sources said when they were asked: the kid of the key of that name, or why there is none.
        self.said: list[tuple[int, str | KeyNotFoundError]] = []
        self._sources = sources
        self._name = name
        self._fingerprint = fingerprint
        self._was_held = was_held
        self._failed: list[Exception] = []
        self._missing: list[KeyNotFoundError] = []
        self.unanswered: list[int] = []
        for at, source in enumerate(sources):
            missing = known[at] if known else None
            if missing is None:
                self.unanswered.append(at)
            else:
                self._missing.append(missing)
                if source.names_are_unique and _is_end(missing):
                    break

    def refusal(self) -> KeyNotFoundError | None:
        """What is raised without asking, if there is nobody left to ask."""
        return None if self.unanswered else min(self._missing, key=_rank)

    def __call__(self) -> Key:
        """Ask. Raises as said above."""
        to_ask, self.unanswered = self.unanswered, []
        unavailable: list[KeyUnavailableError] = []
        for at in to_ask:
            source = self._sources[at]
            try:
                return self._ask(at, source)
            except KeyNotFoundError as error:
                self._missing.append(error)
                if source.names_are_unique and _is_end(error):
                    break
            except KeyUnavailableError as error:
                unavailable.append(error)
                self.unanswered.append(at)
            except Exception as error:  # noqa: BLE001 - another source may still have the key
                self._failed.append(error)
        raise (*unavailable, *self._failed, *sorted(self._missing, key=_rank))[0]

    def _ask(self, at: int, source: KeySource) -> Key:
        try:
            key = source.get(self.asked_for)
        except KeyNotFoundError as error:
            self.said.append((at, error))
            raise
        self.said.append((at, key.kid))
        if key.fingerprint != self._fingerprint or self._name not in {None, key.name}:
            message = another_key(source.label, self.asked_for, key.kid, self.kid)
            if self._was_held:
                message += "; add the former key under a name of its own, or what it sealed cannot be read"
            source.warn_once(self.asked_for, message)
            raise KeyNotFoundError(message)
        return key


def another_key(label: str, name: str, there: str, wanted: str) -> str:
    """That a name means another key than the one that was wanted, both by their kids."""
    return f"{label} has another key under the name {name!r}: this name now means another key ({there}, not {wanted})"


def _is_end(error: KeyNotFoundError) -> bool:
    return isinstance(error, (KeyDisabledError, KeyDestroyedError))


def _rank(error: KeyNotFoundError) -> int:
    # Disabled before destroyed: what may come back must not be given up.
    if isinstance(error, KeyDisabledError):
        return 0
    return 1 if isinstance(error, KeyDestroyedError) else 2
