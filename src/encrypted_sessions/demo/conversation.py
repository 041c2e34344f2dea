"""`encrypted-sessions demo`: an encrypted conversation, stopped, started again, rotated, expired.

The command tells the story and checks what it tells. Every step is a process of its own
(`steps`), so that nothing is left over in memory: what a step knows, it has from the store.
"""

from __future__ import annotations

import io
import logging
import secrets
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from keyproviders import KeyProviderError, KeyRing, ProviderConfigError, open_provider

from .errors import ClaimError, DemoError, UnreachedError, WrongUseError
from .steps import KEYS_VARIABLE, Settings
from .store import missing_extra, problem_with, shown
from .story import GivenKeys, Story

__all__ = ["ClaimError", "DemoError", "WrongUseError", "run"]


def run(keys: str | None, store: str | None) -> None:
    """Tell the story on stdout, with the keys and the store of these URLs or with its own.

    Raises WrongUseError for an option, ClaimError for a claim that does not hold, DemoError when a
    step fails.
    """
    # What goes wrong is reported once, as an error.
    logging.getLogger("keyproviders").addHandler(logging.NullHandler())
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file may have characters that a pipe's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    if store is not None:
        _check_store(store)
    if find_spec("agents") is None:
        raise DemoError("the demo runs an agent and needs the Agents SDK: pip install 'encrypted-sessions[agents]'")
    given = None if keys is None else _active_of(keys)
    with tempfile.TemporaryDirectory(prefix="encrypted-sessions-demo-", ignore_cleanup_errors=True) as folder:
        settings = Settings(
            keys=f"env:{KEYS_VARIABLE}" if keys is None else keys,
            store=str(Path(folder, "demo.db")) if store is None else store,
            session_id=f"demo-{secrets.token_hex(4)}",
            folder=folder,
            started_in=str(Path.cwd()),
        )
        Story(settings, given=given, own_store=store is None).tell()


def _check_store(store: str) -> None:
    problem = problem_with(store)
    if problem:
        raise WrongUseError("--store", f"{shown(store)!r} {problem}.")
    extra = missing_extra(store)
    if extra:
        raise DemoError(
            f"the store {shown(store)} needs a package that is not installed: pip install 'encrypted-sessions[{extra}]'"
        )


def _active_of(url: str) -> GivenKeys:
    """The place of the user's keys and the active one's kid: asked now, so that the story does not break off."""
    try:
        provider = open_provider(url)
    except ProviderConfigError as error:
        raise WrongUseError("--keys or ENCRYPTED_SESSIONS_KEYS", f"{error}.") from None
    place = str(getattr(provider, "place", type(provider).__name__))
    ring = KeyRing(provider)
    try:
        return GivenKeys(place, ring.active_sync().kid)
    except ProviderConfigError as error:
        raise WrongUseError(
            "--keys or ENCRYPTED_SESSIONS_KEYS", f"no key could be fetched from {place}: {error}."
        ) from None
    except KeyProviderError as error:
        raise UnreachedError(f"no key could be fetched from {place}: {error}.") from None
    finally:
        ring.close()
