"""Asking one place, or several in order, and checking that what comes back is the key asked for."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import (
    InvalidKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyUnavailableError,
)
from .events import log
from .provider import Key, KeyProvider

__all__ = ["Search", "ask_active", "place_of"]


def place_of(provider: KeyProvider) -> str:
    """The words for a provider in messages: its own, or else the name of its class."""
    place = getattr(provider, "place", None)
    return place if isinstance(place, str) and place else type(provider).__name__


def ask_active(provider: KeyProvider) -> Key:
    """The provider's active key. One call; raises what the provider raises."""
    return _checked(provider.active(), provider, "active()")


class Search:
    """One search for a key among places that are asked in order.

    Each call of the object asks every place that has not given a final answer yet, until one has
    the key. When none has it, it raises, in this order of preference:

    - the error of a place that could not answer: as long as one is unknown, nothing is known;
    - KeyDisabledError, then KeyDestroyedError, when a place said so;
    - KeyNotFoundError, when all said so.

    So it can be called again after KeyUnavailableError, and asks only those that were unavailable.
    """

    def __init__(self, places: Sequence[KeyProvider], name: str | None, fingerprint: str) -> None:
        self._waiting = list(places)
        self._asked_for = name if name is not None else fingerprint
        self._fingerprint = fingerprint
        self._kid = f"{name or ''}~{fingerprint}"
        self._failed: list[Exception] = []
        self._missing: list[KeyNotFoundError] = []

    def __call__(self) -> Key:
        """Ask. Raises as said above."""
        places, self._waiting = self._waiting, []
        unavailable: list[KeyUnavailableError] = []
        for place in places:
            try:
                return self._ask(place)
            except KeyNotFoundError as error:
                self._missing.append(error)
            except KeyUnavailableError as error:
                unavailable.append(error)
                self._waiting.append(place)
            except Exception as error:  # noqa: BLE001 - another place may still have the key
                self._failed.append(error)
        raise self._verdict(unavailable)

    def _ask(self, place: KeyProvider) -> Key:
        key = _checked(place.get(self._asked_for), place, f"get({self._asked_for!r})")
        if key.fingerprint != self._fingerprint:
            message = (
                f"{place_of(place)} has another key under the name {self._asked_for!r}: this name"
                f" now means another key ({key.kid}, not {self._kid}); put the former key back"
                " under a name of its own, or what was sealed with it cannot be read"
            )
            log.error("%s", message)
            raise KeyNotFoundError(message)
        return key

    def _verdict(self, unavailable: Sequence[Exception]) -> Exception:
        return (*unavailable, *self._failed, *sorted(self._missing, key=_rank))[0]


def _rank(error: KeyNotFoundError) -> int:
    # Disabled before destroyed: what may come back must not be given up.
    if isinstance(error, KeyDisabledError):
        return 0
    return 1 if isinstance(error, KeyDestroyedError) else 2


def _checked(answer: object, provider: KeyProvider, question: str) -> Key:
    if not isinstance(answer, Key):
        raise InvalidKeyError(
            f"{place_of(provider)} answered {question} with a {type(answer).__name__}, not with a"
            " Key; this is a mistake in the provider"
        )
    return answer
