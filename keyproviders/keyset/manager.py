"""What an operator does with a keyset. Each change reads it, changes it, and puts it back if nobody was first."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import wraps
from math import ceil
from typing import Concatenate, ParamSpec, TypeVar

from .._support.keyset_hooks import KeysetCall, changing, is_heard
from .._support.redaction import redact_frames
from ..errors import InvalidKeyError, KeyUnavailableError, ProviderConfigError
from ..wrapping import KeyWrapper, WrappedKey
from .access import KeysetAccess, check_clock, check_name
from .authorship import host_name, user_name
from .document import LONGEST_REASON
from .history import all_changes, note_changes
from .info import KeyInfo, KeysetChange, KeysetInfo, change_info, key_info, keyset_info
from .model import (
    DEFAULT_DELAY_S,
    DEFAULT_DESTROY_AFTER_S,
    MOST_DELAY_S,
    Change,
    KeyEntry,
    Keyset,
    KeysetRefusedError,
    context_of,
)
from .stores.base import KeysetStore
from .urls import open_keyset_url

__all__ = ["KeysetManager", "open_keyset"]

# Each loss means that another process has made its change, so this many have to come first.
_MOST_TRIES = 100
_LONGEST_PAUSE_S = 0.05
_ID_BYTES = 16

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _told(method: Callable[Concatenate[KeysetManager, _P], _T]) -> Callable[Concatenate[KeysetManager, _P], _T]:
    """Have a method told that makes a change. A key's name is its first argument, or `key_name`."""

    @wraps(method)
    def telling(manager: KeysetManager, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not is_heard():
            return method(manager, *args, **kwargs)
        key, reason = kwargs.get("key_name", args[0] if args else None), kwargs.get("reason")
        call = KeysetCall(
            method.__name__,
            manager.place,
            key if isinstance(key, str) else None,
            reason if isinstance(reason, str) else None,
        )
        with changing(call) as made:
            found = method(manager, *args, **kwargs)
            if isinstance(found, KeyInfo):
                made.key = found.name
            return found

    return telling


@redact_frames
def open_keyset(url: str, *, allow_insecure: bool = False) -> KeysetManager:
    """The manager of the keyset at a URL such as `aws-kms:` or `vault-transit:`. Nothing is contacted yet.

    Args:
        url: The URL, the same that services use for the ring.
        allow_insecure: Allow the wrapper to use an unprotected connection, with a warning.

    Returns:
        The manager.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: It is not the URL of a keyset, or has a mistake in it.
    """
    opened = open_keyset_url(url, allow_insecure=allow_insecure)
    return KeysetManager(opened.wrapper, opened.store, name=opened.name, keyset_id=opened.keyset_id)


class KeysetManager:
    """Changes one keyset: `KeysetManager(wrapper, store)`, or `open_keyset(url)`.

    Every change is one compare-and-swap in the store, and is tried again if somebody else changed the keyset first.
    If a change is killed at any moment, either the old keyset or the new one remains, and the change can be repeated:
    what is done already stays as it is. A damaged keyset is never overwritten.

    The methods raise KeysetRefusedError for what the keyset's state does not allow, and the errors of the wrapper and
    the store. After KeyUnavailableError a change may have been made: `list()` shows it. Each method that makes a
    change takes a `reason`. A keyset of format 2 records it with the user, the machine and the time: the last 20
    changes in the keyset, and all of them beside it.

    Args:
        wrapper: What wraps its keys.
        store: Where it is kept.
        name: Its name in the store.
        keyset_id: The id that the keyset must have; None for any id.
        clock: Gives the time in Unix seconds.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: No keyset can have that name or id.
    """

    @redact_frames
    def __init__(
        self,
        wrapper: KeyWrapper,
        store: KeysetStore,
        *,
        name: str = "default",
        keyset_id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = KeysetAccess(wrapper, store, name, keyset_id)
        check_clock(clock)
        self._wrapper = wrapper
        self._clock = clock
        self.place = self._access.place
        #: Why the last change, which was made, could not be noted beside the keyset; the next one notes it, too.
        self.not_noted: str | None = None

    @property
    def keyset_id(self) -> str | None:
        """The keyset's id, as it was given, created or read; None before that, and in format 1."""
        return self._access.keyset_id

    @redact_frames
    @_told
    def create(
        self,
        *,
        key_name: str | None = None,
        activation_delay_s: int = DEFAULT_DELAY_S,
        destroy_after_s: int = DEFAULT_DESTROY_AFTER_S,
        reason: str | None = None,
    ) -> KeyInfo:
        """Create the keyset, with one key that is active at once. Refused if there is one already.

        It has format 2, which release 0.1.0 cannot read. `keyset_id` is its id from then on.

        Args:
            key_name: The name of the key; None to generate one.
            activation_delay_s: How long a new key waits until it becomes active, in seconds, at least 1; it must
                cover a ring's `fresh_s + stale_write_s + 60`.
            destroy_after_s: How long a retired key must wait before it may be destroyed, in seconds.
            reason: The reason, for the record; None for no reason.

        Returns:
            The key.

        Raises:
            KeysetRefusedError: There is a keyset already.
            TypeError: An argument has the wrong type.
            ProviderConfigError: No key can have that name, a time is out of range, or the manager was given an id: a
                new keyset gets its own.
        """
        _check_seconds(activation_delay_s, "activation_delay_s", 1)
        _check_seconds(destroy_after_s, "destroy_after_s", 0)
        change = self._change("create", reason)
        key_name = self._new_name(key_name)
        if self._access.given_id is not None:
            raise ProviderConfigError("a new keyset gets an id of its own; leave keyset_id out to make one")
        if self._access.read() is None:
            keyset_id = _new_id()
            entry = self._generated(key_name, keyset_id)
            keyset = Keyset(self._access.name, activation_delay_s, (entry,)).upgraded(keyset_id, destroy_after_s)
            keyset = keyset.recorded(change._replace(key=entry.name))
            if self._access.write(keyset, expected=None):
                self.not_noted = note_changes(self._access, keyset)
                return self._info(keyset, entry.name)
        raise KeysetRefusedError(
            f"{self._access.label} exists already, and nothing was changed; `rotate` adds a key to it"
        )

    @redact_frames
    def list(self) -> KeysetInfo:
        """The keyset as it is now. No key is unwrapped.

        Returns:
            The keyset and all its keys.

        Raises:
            InvalidKeyError: It is damaged.
            ProviderConfigError: There is none.
        """
        return keyset_info(self._access.existing().keyset, self._clock())

    @redact_frames
    def history(self) -> tuple[KeysetChange, ...]:
        """All recorded changes, the oldest first: the keyset itself has only the last 20.

        The others are in the table `encrypted_sessions_keysets_changes` of its database, or in the file
        `PATH.changes` beside it. If a keyset was deleted and created again, the changes of both are there. A keyset
        of format 1 has none. Whoever can write there can write anything, so the changes are not proof.

        Returns:
            The changes.

        Raises:
            KeyProviderError: What the store raises.
        """
        return tuple(map(change_info, all_changes(self._access)))

    @redact_frames
    @_told
    def rotate(self, *, key_name: str | None = None, now: bool = False, reason: str | None = None) -> KeyInfo:
        """Add a key, which becomes active after the keyset's activation delay. Refused while one is pending.

        With `now` it is active at once, for an emergency: a process that has not read the keyset since then looks the
        key up when it meets an item sealed with it. A key that is still pending then never becomes active.

        Args:
            key_name: The name of the key; None to generate one.
            now: Whether it is active at once.
            reason: The reason, for the record; None for no reason.

        Returns:
            The new key.

        Raises:
            KeysetRefusedError: A key is pending, or had that name before.
            TypeError: An argument has the wrong type.
            ProviderConfigError: No key can have that name.
        """
        _check_flag(now, "now")
        key_name = self._new_name(key_name)
        # One for each id that it is tried under: while it is tried, the keyset may be upgraded.
        made: dict[str | None, KeyEntry] = {}

        def change(keyset: Keyset) -> Keyset:
            keyset.check_name(key_name)
            if not now:
                keyset.check_rotation(self._clock())
            if keyset.id not in made:
                made[keyset.id] = self._generated(key_name, keyset.id)
            entry = made[keyset.id]
            at_s = self._clock() if now else ceil(self._clock()) + keyset.activation_delay_s
            return keyset.added(entry._replace(activate_at=max(int(at_s), entry.created_at)))

        return self._info(self._changed(change, self._change("rotate", reason, key_name)), key_name)

    @redact_frames
    @_told
    def rewrap(self, *, reason: str | None = None) -> tuple[KeyInfo, ...]:
        """Wrap every key that is not destroyed under the current version of the wrapper's own key-encryption key.

        The keyset is changed once, after all keys are wrapped again. Its format stays the same.

        Args:
            reason: The reason, for the record; None for no reason.

        Returns:
            Those keys.

        Raises:
            KeyProviderError: What the wrapper and the store raise.
        """
        done: dict[tuple[str | None, str, WrappedKey], WrappedKey] = {}

        def change(keyset: Keyset) -> Keyset:
            anew: dict[str, WrappedKey] = {}
            for entry in keyset.entries:
                if entry.wrapped is not None:
                    known = (keyset.id, entry.name, entry.wrapped)
                    if known not in done:
                        done[known] = self._answer(self._wrapper.rewrap(entry.wrapped, keyset.context(entry)))
                    anew[entry.name] = done[known]
            return keyset.rewrapped(anew)

        keyset = self._changed(change, self._change("rewrap", reason))
        now = self._clock()
        return tuple(key_info(keyset, entry, now) for entry in keyset.entries if entry.ciphertext is not None)

    @redact_frames
    @_told
    def upgrade(self, *, destroy_after_s: int = DEFAULT_DESTROY_AFTER_S, reason: str | None = None) -> KeysetInfo:
        """Move a keyset of format 1 to format 2, with an id that is bound to each of its keys.

        Do this only when every process that uses it has a release that reads format 2, which 0.1.0 does not. A keyset
        of format 2 stays as it is.

        Args:
            destroy_after_s: How long a retired key must wait before it may be destroyed, in seconds.
            reason: The reason, for the record; None for no reason.

        Returns:
            The keyset.

        Raises:
            KeysetRefusedError: The wrapper has no `rebind`.
            TypeError: An argument has the wrong type.
            KeyProviderError: What the wrapper and the store raise.
        """
        _check_seconds(destroy_after_s, "destroy_after_s", 0)
        rebind = getattr(self._wrapper, "rebind", None)
        keyset_id = _new_id()
        done: dict[tuple[str, WrappedKey], WrappedKey] = {}

        def change(keyset: Keyset) -> Keyset:
            if keyset.id is not None:
                return keyset
            if not callable(rebind):
                raise KeysetRefusedError(
                    f"{self._wrapper.place} cannot bind the keys of {self._access.label} to an id: its wrapper has no"
                    " rebind(); nothing was changed"
                )
            upgraded, anew = keyset.upgraded(keyset_id, destroy_after_s), {}
            for entry in keyset.entries:
                if entry.wrapped is not None:
                    known = (entry.name, entry.wrapped)
                    if known not in done:
                        contexts = keyset.context(entry), upgraded.context(entry)
                        done[known] = self._answer(rebind(entry.wrapped, *contexts))
                    anew[entry.name] = done[known]
            return upgraded.rewrapped(anew)

        return keyset_info(self._changed(change, self._change("upgrade", reason)), self._clock())

    @redact_frames
    @_told
    def retire(self, key_name: str, *, reason: str | None = None) -> KeyInfo:
        """Stop handing out a key: reading with it raises KeyDisabledError, until it is restored.

        Refused for the active key, for a pending key, and for a key that a process might still write with: until the
        activation delay after the next key became active. This cannot be overridden, since what such a process writes
        could not be read.

        Args:
            key_name: Its name.
            reason: The reason, for the record; None for no reason.

        Returns:
            The key.

        Raises:
            KeysetRefusedError: Its state does not allow that, or there is no such key.
        """
        check_name(key_name, "key_name")
        record = self._change("retire", reason, key_name)
        return self._info(self._changed(lambda keyset: keyset.retired(key_name, self._clock()), record), key_name)

    @redact_frames
    @_told
    def restore(self, key_name: str, *, reason: str | None = None) -> KeyInfo:
        """Hand out a retired key again.

        Args:
            key_name: Its name.
            reason: The reason, for the record; None for no reason.

        Returns:
            The key.

        Raises:
            KeysetRefusedError: It was destroyed, or there is no such key.
        """
        check_name(key_name, "key_name")
        record = self._change("restore", reason, key_name)
        return self._info(self._changed(lambda keyset: keyset.restored(key_name), record), key_name)

    @redact_frames
    @_told
    def destroy(self, key_name: str, *, now: bool = False, reason: str | None = None) -> KeyInfo:
        """Remove the bytes of a retired key permanently; its record stays. Refused for any other key.

        Also refused until the key has been retired for the keyset's `destroy_after_s`, during which somebody may find
        that it is still needed. A keyset of format 1 has no such time.

        Copies of the keyset in backups still contain the bytes, until they expire or the version of the
        key-encryption key is destroyed.

        Args:
            key_name: Its name.
            now: Whether to destroy it at once, no matter how long it has been retired.
            reason: The reason, for the record; None for no reason.

        Returns:
            The key; only its record is left.

        Raises:
            KeysetRefusedError: It is not retired, or not long enough, or there is no such key.
        """
        check_name(key_name, "key_name")
        _check_flag(now, "now")
        record = self._change("destroy", reason, key_name)

        def change(keyset: Keyset) -> Keyset:
            return keyset.destroyed(key_name, self._clock(), at_once=now)

        return self._info(self._changed(change, record), key_name)

    def close(self) -> None:
        """Close the wrapper and the store, if they have anything to close."""
        self._access.close()

    def __repr__(self) -> str:
        return f"<KeysetManager {self.place}>"

    def _changed(self, change: Callable[[Keyset], Keyset], record: Change) -> Keyset:
        for _ in range(_MOST_TRIES):
            read = self._access.existing()
            changed = change(read.keyset)
            if changed == read.keyset:
                return changed
            changed = changed.recorded(record)
            if self._access.write(changed, expected=read.revision):
                self.not_noted = note_changes(self._access, changed)
                return changed
            time.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311 - keeps those apart who try at once
        raise KeyUnavailableError(
            f"{self._access.label} was changed by others {_MOST_TRIES} times while this change"
            " was attempted; this change was not made; try again"
        )

    def _change(self, what: str, reason: str | None, key_name: str | None = None) -> Change:
        """The record of a change that is made now."""
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"reason must be a str or None, not {type(reason).__name__}")
        if reason is not None and not (1 <= len(reason) <= LONGEST_REASON and reason.isprintable()):
            raise ProviderConfigError(f"reason must be one line of 1 to {LONGEST_REASON} printable characters")
        return Change(int(self._clock()), user_name(), host_name(), what, key_name, reason)

    def _generated(self, key_name: str, keyset_id: str | None) -> KeyEntry:
        created_at = int(self._clock())
        context = context_of(self._access.name, keyset_id, key_name, created_at)
        # The plain key is of no use here.
        wrapped = self._answer(self._wrapper.generate(context)[1])
        return KeyEntry(key_name, created_at, created_at, wrapped.kek, wrapped.ciphertext)

    def _answer(self, wrapped: WrappedKey) -> WrappedKey:
        if not isinstance(wrapped, WrappedKey):
            raise InvalidKeyError(
                f"{self._wrapper.place} returned a {type(wrapped).__name__} instead of a WrappedKey; this"
                " is a bug in the wrapper"
            )
        return wrapped

    def _info(self, keyset: Keyset, key_name: str) -> KeyInfo:
        entry = keyset.find(key_name)
        assert entry is not None  # noqa: S101 - it was just added or changed
        return key_info(keyset, entry, self._clock())

    def _new_name(self, given: str | None) -> str:
        if given is not None:
            check_name(given, "key_name")
            return given
        return f"{datetime.fromtimestamp(self._clock(), timezone.utc):%Y%m%d}-{os.urandom(3).hex()}"


def _new_id() -> str:
    return os.urandom(_ID_BYTES).hex()


def _check_flag(given: object, argument: str) -> None:
    if not isinstance(given, bool):
        raise TypeError(f"{argument} must be a bool, not {type(given).__name__}")


def _check_seconds(given: object, argument: str, least: int) -> None:
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{argument} must be an int, not {type(given).__name__}")
    if not least <= given <= MOST_DELAY_S:
        raise ProviderConfigError(f"{argument} must be {least} to {MOST_DELAY_S} seconds; {given} was given")
