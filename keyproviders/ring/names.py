"""What each source is known to have, and to lack: no thread, no lock, no I/O.

Names stand in stored rows, so whoever writes to the store chooses what is asked for. What a source
said of a name holds for every fingerprint under that name, and a source that lists all its names
answers for those that it lacks by one reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

from ..errors import KeyNotFoundError
from ..key import Key
from .calls import copy_of
from .sources import KeySource, another_key

__all__ = ["KnownNames", "Listing"]

_MOST_REMEMBERED = 1_000
_SHOWN_NAMES = 10


class KnownNames:
    """What one source said of names lately, and the names that it listed last."""

    def __init__(self, source: KeySource, memory_s: float, confirmed_at: Callable[[str], float | None]) -> None:
        self._source = source
        self._memory_s = memory_s
        self._confirmed_at = confirmed_at
        # And when. Of a key that is there, its kid: any other kid of that name is missing. If the ring holds the key,
        # it knows when, and the kid alone takes no memory here.
        self._said: dict[str, str | tuple[str | BaseException, float]] = {}
        self._listed: Mapping[str, str | None] | None = None
        self._last_listing_failed = False

    def missing(
        self, name: str, kid: str, now: float, *, listed: bool, later: Callable[[Callable[[], object]], object]
    ) -> KeyNotFoundError | None:
        """Why the source does not have that kid, if it need not be asked.

        `listed` says that its last listing is newer than the question. `later` takes what is to be
        called when no lock is held: to warn where the name means another key.
        """
        said, at = self._said_of(name)
        if now - at >= self._memory_s:
            said = self._from_listing(name) if listed and not self._last_listing_failed else ""
            if said:
                self.remember(name, said, now)
        if isinstance(said, KeyNotFoundError):
            return said
        # A kid without a name stands for every key of its fingerprint.
        if not isinstance(said, str) or not said or said == kid or (kid[0] == "~" and said.endswith(kid)):
            return None
        message = another_key(self._source.label, name, said, kid)
        later(partial(self._source.warn_once, name, message))
        return KeyNotFoundError(message)

    def needs_listing(self, name: str) -> bool:
        """Whether the source lists its names, and did not have this one when it did last."""
        return self._source.lists_names and (self._listed is None or name not in self._listed)

    def kids(self) -> list[str]:
        """The public ids of what the source listed last, as far as it has their fingerprints at hand."""
        return [_kid_of(name, fingerprint) for name, fingerprint in (self._listed or {}).items() if fingerprint]

    def remember(self, name: str, said: str | KeyNotFoundError, now: float, *, is_held: bool = False) -> None:
        """The source said this of a name: the kid of its key, which the ring holds or not, or why it has none."""
        self._said.pop(name, None)
        if isinstance(said, KeyNotFoundError):
            self._said[name] = copy_of(said), now  # not with its traceback, which would keep frames
        else:
            self._said[name] = said if is_held else (said, now)
        # The oldest come first. What is out of date is of no use, nor is what is too much.
        while (oldest := next(iter(self._said))) != name and (
            len(self._said) > _MOST_REMEMBERED or now - self._said_of(oldest)[1] >= self._memory_s
        ):
            del self._said[oldest]

    def put_listing(self, listed: Mapping[str, str | None] | None) -> None:
        """The source listed its names, or could not."""
        self._last_listing_failed = listed is None
        self._listed = self._listed if listed is None else listed

    def forget(self) -> None:
        """Ask again for everything."""
        self._said.clear()

    def _said_of(self, name: str) -> tuple[str | BaseException, float]:
        said = self._said.get(name, "")
        if not isinstance(said, str):
            return said
        at = self._confirmed_at(said)
        return said, -inf if at is None else at

    def _from_listing(self, name: str) -> str | KeyNotFoundError:
        listed = self._listed
        if listed is None:
            return ""
        if name in listed:
            fingerprint = listed[name]
            return "" if fingerprint is None else _kid_of(name, fingerprint)
        more = len(listed) - _SHOWN_NAMES
        shown = ", ".join(list(listed)[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
        return KeyNotFoundError(f"{self._source.label} has no key {name!r}; it has {shown}")


def _kid_of(name: str, fingerprint: str) -> str:
    return f"{'' if name == fingerprint else name}~{fingerprint}"


class Listing:
    """One reading of the names of all sources that list theirs. It asks, so it is called on a worker."""

    def __init__(self, sources: Sequence[KeySource]) -> None:
        self._sources = sources
        self.found: list[Mapping[str, str | None] | None] = [None for _ in sources]

    def __call__(self) -> Key | None:
        """Ask each of them. One that fails is asked for single names instead, and says then why."""
        self.found = [source.names() if source.lists_names else None for source in self._sources]
        return None
