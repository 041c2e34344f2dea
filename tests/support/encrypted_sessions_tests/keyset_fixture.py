"""A keyset with its parts: wrapper, store, manager, and the clock that they all go by."""

from __future__ import annotations

from typing import Any, NamedTuple

from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from keyproviders.keyset import KeysetKeyProvider, KeysetManager, KeysetStore, KeyWrapper
from keyproviders.keyset.document import dump
from keyproviders.keyset.model import KeyEntry, Keyset, context_of

DELAY_S = 1_260


class KeysetFixture(NamedTuple):
    """All that a test of a keyset needs. The keyset itself is made by the test, or by a fixture."""

    wrapper: FakeKeyWrapper
    store: KeysetStore
    clock: FakeClock
    manager: KeysetManager

    @classmethod
    def of(cls, store: KeysetStore) -> KeysetFixture:
        wrapper, clock = FakeKeyWrapper(), FakeClock()
        return cls(wrapper, store, clock, KeysetManager(wrapper, store, clock=clock))

    def provider(self, wrapper: FakeKeyWrapper | None = None, **options: Any) -> KeysetKeyProvider:
        """Another provider of the keyset, as another process would make it."""
        return KeysetKeyProvider(wrapper or self.wrapper, self.store, clock=self.clock, **options)

    def later(self, seconds: int) -> None:
        self.clock.now += seconds

    def states(self) -> dict[str, str]:
        return {key.name: key.state for key in self.manager.list().keys}

    def supersede(self, by: str) -> None:
        """Another key becomes active, and nobody can be writing with the one before any more."""
        self.manager.rotate(key_name=by)
        self.later(2 * DELAY_S)

    def retire_first(self) -> None:
        """The key `first` is retired, and `second` is active."""
        self.supersede("second")
        self.manager.retire("first")

    def text(self) -> str:
        stored = self.store.read("default")
        assert stored is not None
        return stored.text


def make_format_1(
    wrapper: KeyWrapper, store: KeysetStore, *key_names: str, name: str = "default", now: int = 1_800_000_000
) -> dict[str, bytes]:
    """Make a keyset as 0.1.0 made it, which `create` does no more; the keys by their names, the last one active."""
    secrets, entries = {}, []
    for key_name in key_names:
        secrets[key_name], wrapped = wrapper.generate(context_of(name, None, key_name, now))
        entries.append(KeyEntry(key_name, now, now, wrapped.kek, wrapped.ciphertext))
    assert store.write(name, dump(Keyset(name, DELAY_S, tuple(entries))), expected=None)
    return secrets
