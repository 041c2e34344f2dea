"""What a ring holds beside the keys themselves."""

from __future__ import annotations

import gc
import sys
import tracemalloc

from keyproviders import Key, KeyRing

_KEYS = 300
# Some 330 are used, and on Python 3.10, whose objects are larger, up to 480.
_MOST_BYTES = 380 if sys.version_info >= (3, 11) else 560


class _Place:
    def __init__(self) -> None:
        self.keys = {f"k{number}": Key.generate(f"k{number}") for number in range(_KEYS)}

    def active(self) -> Key:
        return self.keys["k0"]

    def get(self, name: str) -> Key:
        return self.keys[name]


async def test_a_key_that_is_held_takes_about_a_third_of_a_kilobyte() -> None:
    place = _Place()
    async with KeyRing(place) as ring:
        first, *others = place.keys.values()
        await ring.get(first.kid)  # threads, and whatever else is made once
        gc.collect()
        tracemalloc.start()
        try:
            for key in others:
                await ring.get(key.kid)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(ring.health().held) == _KEYS
    assert held / len(others) < _MOST_BYTES
