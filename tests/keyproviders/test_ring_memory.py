"""What a ring holds beside the keys themselves."""

from __future__ import annotations

import gc
import tracemalloc

from keyproviders import Key, KeyRing

_KEYS = 300


class _Place:
    def __init__(self) -> None:
        self.keys = {f"k{number}": Key.generate(f"k{number}") for number in range(_KEYS)}

    def active(self) -> Key:
        return self.keys["k0"]

    def get(self, name: str) -> Key:
        return self.keys[name]


async def test_a_key_that_is_held_takes_less_than_half_a_kilobyte() -> None:
    place = _Place()
    async with KeyRing(place) as ring:
        gc.collect()
        tracemalloc.start()
        try:
            for key in place.keys.values():
                await ring.get(key.kid)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(ring.health().held) == _KEYS
    assert held / _KEYS < 512  # on Python 3.10, whose objects are the largest, 502
