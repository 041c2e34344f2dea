"""What the commands over a store were given, and what it stands for: the store, the keys' ring, a secret."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from keyproviders import ProviderConfigError, redact_frames

from .._support.durations import parse_duration
from ..errors import StoreConfigError
from .errors import checked, wrong_use
from .session_options import which_sessions

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..stores.whole import WholeStore

__all__ = ["CommonOptions"]


@dataclass(frozen=True)
class CommonOptions:
    """The options that commands over a store share, as they were given."""

    store: str
    sessions_table: str
    messages_table: str
    key_prefix: str
    as_json: bool
    keys: Sequence[str] | None = None
    kids: Sequence[str] | None = None
    realms: Sequence[str] | None = None
    upstream_key: str | None = None
    upstream_until: str | None = None
    batch: int = 500
    max_row_bytes: int = 64 * 2**20
    limit: int | None = None
    allow_triggers: Sequence[str] | None = None
    replica_wait: str = "60s"
    sessions: Sequence[str] | None = None
    session_prefix: str | None = None
    sessions_from: str | None = None

    def __repr__(self) -> str:
        return "CommonOptions()"  # a store's URL may hold what nobody shall see

    @redact_frames
    def open_store(self) -> WholeStore:
        """The store, not entered yet. Ends the command where it cannot be one."""
        from ..stores.urls import open_store  # noqa: PLC0415 - `--help` needs no store

        try:
            return open_store(
                self.store,
                sessions_table=self.sessions_table,
                messages_table=self.messages_table,
                key_prefix=self.key_prefix,
            )
        except StoreConfigError as error:
            problem = str(error)
        raise wrong_use(problem, kind="StoreConfigError")

    @redact_frames
    def open_rings(self) -> list[KeyRing]:
        """A ring for each place of keys, which has asked for nothing yet. Ends the command where it cannot be one."""
        from keyproviders import KeyRing  # noqa: PLC0415 - likewise no ring

        if not self.keys:
            raise wrong_use(
                "say where your keys are, such as env:SESSION_KEYS, or set ENCRYPTED_SESSIONS_KEYS", "--keys"
            )
        try:
            return [KeyRing.from_url(url) for url in dict.fromkeys(self.keys)]
        except ProviderConfigError as error:
            problem = str(error)
        raise wrong_use(problem, "--keys", kind="ProviderConfigError")

    @redact_frames
    def upstream_secret(self) -> str | None:
        """The string of the SDK's class. It comes by a variable: others can read a command line."""
        if self.upstream_key is None:
            return None
        kind, _, name = self.upstream_key.partition(":")
        if kind != "env" or not name.isidentifier():
            raise wrong_use("give env:NAME, the environment variable that holds the string", "--upstream-key")
        secret = os.environ.get(name)
        if not secret:
            raise wrong_use(f"the environment variable {name} is not set or is empty", "--upstream-key")
        return secret

    def _upstream_end(self) -> datetime | None:
        if self.upstream_until is None:
            return None
        if self.upstream_key is None:
            raise wrong_use("goes with --upstream-key", "--upstream-until")
        text = self.upstream_until
        try:
            # Z is what Python reads from 3.11 on.
            moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)
        except ValueError:
            moment = None
        if moment is None or moment.utcoffset() is None:
            raise wrong_use("give a time with a time zone, such as 2026-12-01T09:00Z", "--upstream-until")
        return moment

    def for_opening(self) -> dict[str, Any]:
        """The realms, for what opens rows. Ends the command where one is none."""
        if not self.realms:
            return {}
        from ..maintenance.realms import Realms  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not

        return {"realm": checked(Realms, list(self.realms)).always}

    @redact_frames
    def for_reading(self) -> dict[str, Any]:
        """The arguments of an operation that opens rows."""
        reading: dict[str, Any] = {
            **self.for_opening(),
            "upstream_key": self.upstream_secret(),
            "upstream_until": self._upstream_end(),
            "batch": self.batch,
            "max_row_bytes": self.max_row_bytes,
            **which_sessions(self.sessions, self.session_prefix, self.sessions_from),
        }
        return {**reading, "kids": self.checked_kids(self.kids, "--kid", self.keys)} if self.kids else reading

    @redact_frames
    def for_writing(self) -> dict[str, Any]:
        """The arguments of an operation that changes rows."""
        changing = {"limit": self.limit, "allow_triggers": list(self.allow_triggers or ())}
        return {**self.for_reading(), **changing, "replica_wait_s": self.replica_wait_s()}

    @staticmethod
    @redact_frames
    def checked_kids(given: Sequence[str], option: str, places: Sequence[str] | None = None) -> Sequence[str]:
        """What was given as kids. Ends the command where one is none, and says which key of these places is meant."""
        from ..maintenance.arguments import kids  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not
        from .hints import kid_of_places  # noqa: PLC0415 - likewise what it asks

        for one in given:
            checked(kids, [one], option, hint=partial(kid_of_places, one, places or ()))
        return kids(list(given), option)

    def replica_wait_s(self) -> float:
        """The seconds that replicas have. Ends the command where they cannot be read."""
        return checked(parse_duration, self.replica_wait, "--replica-wait")
