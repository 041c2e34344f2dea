"""Who listens to changes of keysets."""

from __future__ import annotations

from pathlib import Path

import pytest

import keyproviders
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from keyproviders import KeysetCall
from keyproviders.keyset import FileKeysetStore, KeysetManager


def test_all_are_told_of_the_end_and_what_one_raises_is_raised(tmp_path: Path):
    manager = KeysetManager(FakeKeyWrapper("kek"), FileKeysetStore(tmp_path / "keyset.json"))
    ended: list[tuple[str | None, str]] = []

    def listening(call: KeysetCall) -> object:
        assert call == KeysetCall("create", manager.place, "one", None)
        return lambda key, error: ended.append((key, type(error).__name__))

    def failing_at_the_end(_: KeysetCall) -> object:
        def end(*_: object) -> None:
            raise OSError("at the end")

        return end

    def refusing(_: KeysetCall) -> None:
        raise OSError("before")

    stops = [keyproviders.observe_keysets(hook) for hook in (listening, refusing)]  # type: ignore[arg-type]  # objects
    with pytest.raises(OSError, match="before"):
        manager.create(key_name="one")
    assert ended == [("one", "OSError")]
    assert list(tmp_path.iterdir()) == []
    stops[1]()
    stops[1]()
    stops.append(keyproviders.observe_keysets(failing_at_the_end))  # type: ignore[arg-type]  # likewise
    with pytest.raises(OSError, match="at the end"):
        manager.create(key_name="one")
    assert ended[1:] == [("one", "OSError")]
    for stop in stops:
        stop()
    manager.rotate()
    assert len(ended) == 2


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="hook must be callable, not str"):
        keyproviders.observe_keysets("print")  # type: ignore[arg-type]  # what is tested
