"""How many series there can be: what anybody may name is counted by name only so far."""

from __future__ import annotations

from keyproviders import known_schemes

from .._support.terminal import printable
from .names import OTHER

__all__ = ["MOST_KEYS", "MOST_RINGS", "RingNames", "scheme_of"]

#: So many rings have series of their own; further ones share those of their scheme.
MOST_RINGS = 50
#: So many keys of each ring do: the one that is active, and the newest.
MOST_KEYS = 20

_LONGEST = 256


class RingNames:
    """What rings are called in metrics: the first so many in this process by name."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def shown(self, ring: str) -> str:
        """The ring's name, or `other`."""
        shown = self._shown.get(ring)
        if shown is None:
            if len(self._shown) >= MOST_RINGS:
                return OTHER
            shown = self._shown[ring] = printable(ring)[:_LONGEST]
        return shown


def scheme_of(place: str) -> str:
    """The scheme of a place, if it is one that this release knows, else `other`: that of keys in code, too."""
    scheme = place.partition(":")[0]
    return scheme if scheme in known_schemes() else OTHER
