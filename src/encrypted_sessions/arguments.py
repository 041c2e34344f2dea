"""What public names accept, checked where it enters. Messages never show a secret."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

from .events.listening import LISTENING
from .stores.plain import METHODS
from .stores.registry import qualified_name

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from .events.listening import Hook

__all__ = [
    "ON_ERASED",
    "ON_UNREADABLE",
    "PLAINTEXT",
    "choice",
    "is_key_ring",
    "items",
    "key_ring",
    "key_string",
    "kind_of",
    "limit",
    "max_row_bytes",
    "max_scan_items",
    "moment",
    "on_event",
    "purge_on_add",
    "seconds",
    "session_id",
    "shield_s",
    "store_timeout_s",
    "ttl",
    "underlying_session",
]

ON_ERASED = ("skip", "raise")
ON_UNREADABLE = ("raise", "skip")
PLAINTEXT = ("raise", "read")

_LEAST_ROW_BYTES = 4096

_COMPACTION_SESSION = "agents.memory.openai_responses_compaction_session.OpenAIResponsesCompactionSession"
_OURS = "encrypted_sessions.session.EncryptedSession"

_OTHER_WAY_ROUND = (
    "Wrap the other way round: OpenAIResponsesCompactionSession(session_id, EncryptedSession(session_id, store, ...))"
)

#: Sessions may lie in each other in a circle.
_DEEPEST = 100


def session_id(value: object) -> str:
    """A non-empty str that UTF-8 can hold and no store cuts short."""
    if not isinstance(value, str):
        raise TypeError(f"session_id must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError("session_id is empty; every session needs an id of its own")
    if "\0" in value:
        raise ValueError("session_id contains a NUL character, which not every store keeps")
    if _has_lone_surrogate(value):
        raise ValueError("session_id contains a lone surrogate, which UTF-8 cannot hold")
    return value


def underlying_session(value: Any) -> tuple[Any, Any]:
    """The session that stores, and the SDK's compaction session around it, None without one.

    Refuses what else compacts beneath the encryption.
    """
    _session(value, "underlying_session")
    if not _is_a(value, _COMPACTION_SESSION):
        _refuse_compaction(value, is_compacted=False)
        return value, None
    store = value.underlying_session
    _session(store, f"underlying_session of {type(value).__name__}")
    _refuse_compaction(store, is_compacted=True)
    for name, held in vars(value).items():
        if held is store and name != "underlying_session":
            raise ValueError(
                f"{type(value).__name__} also holds its store as {name}, and could write to it without encryption."
                f" {_OTHER_WAY_ROUND}"
            )
    return store, value


def _session(value: Any, what: str) -> None:
    """Refuse what has not the five members."""
    if type(value).__qualname__ == "OpenAIConversationsSession":
        raise ValueError(
            "OpenAIConversationsSession keeps its items at OpenAI, which does not accept sealed items. Wrap a"
            " session that stores its items on your side"
        )
    missing = [name for name in METHODS if not callable(getattr(value, name, None))]
    if not hasattr(value, "session_id"):
        missing.append("session_id")
    if missing or isinstance(value, type):
        raise TypeError(
            f"{what} must be a session (an object with session_id, get_items,"
            f" add_items, pop_item and clear_session), not {kind_of(value)}"
            + (f", which has no {', '.join(missing)}" if missing else "")
        )


def _refuse_compaction(store: Any, *, is_compacted: bool) -> None:
    """Refuse a store that compacts, or has something beneath that does, and what would be sealed twice around one."""
    beneath, depth = store, 0
    while beneath is not None and depth < _DEEPEST:
        compacts = callable(getattr(beneath, "run_compaction", None))
        if (compacts or is_compacted) and _is_a(beneath, _OURS):
            raise ValueError(
                "underlying_session seals already: it contains an EncryptedSession and a compaction"
                " session. Use it as it is, without another EncryptedSession around it"
            )
        if compacts:
            raise ValueError(
                f"{type(beneath).__name__} compacts, and would have to read items that are sealed above it."
                f" {_OTHER_WAY_ROUND}"
            )
        beneath, depth = getattr(beneath, "underlying_session", None), depth + 1


def _is_a(value: object, name: str) -> bool:
    """Whether an object's class is the one of this name, or made from it. The SDK is not imported for that."""
    session_class: type = type(value)
    return _is_made_from(session_class, name)


@lru_cache(maxsize=256)  # a session may be made for each request
def _is_made_from(session_class: type, name: str) -> bool:
    return any(qualified_name(base) == name for base in session_class.__mro__)


def key_string(value: object, argument: str) -> str:
    """A string that the Agents SDK's class would take as a key, and that is no URL."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be {_expected(argument)}, not {kind_of(value)}")
    if not value:
        raise ValueError(f"{argument} is empty; give {_expected(argument)}")
    from keyproviders import looks_like_provider_url  # noqa: PLC0415 - a ring needs no such look

    if looks_like_provider_url(value):
        scheme = value.partition(":")[0].strip()
        raise ValueError(
            f"{argument} is the URL of a key provider ({scheme}:...), and would be used"
            f" as the key itself. Give KeyRing.from_url('{scheme}:...') instead"
        )
    if _has_lone_surrogate(value):
        raise ValueError(f"{argument} contains a lone surrogate, which UTF-8 cannot hold")
    return value


def _expected(argument: str) -> str:
    return "a non-empty str or a KeyRing" if argument == "encryption_key" else "a non-empty str"


def is_key_ring(value: object) -> TypeGuard[KeyRing]:
    """Whether this is a key ring."""
    from keyproviders import KeyRing  # noqa: PLC0415 - loaded with the first session, not with the package

    return isinstance(value, KeyRing)


def key_ring(value: object, argument: str) -> KeyRing:
    """A key ring."""
    if not is_key_ring(value):
        raise TypeError(
            f"{argument} must be a KeyRing, not {kind_of(value)}; for instance KeyRing.from_url('env:SESSION_KEYS')"
        )
    return value


def ttl(value: object) -> int | None:
    """A positive int of seconds, or None for no end."""
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"ttl must be an int of seconds or None, not {kind_of(value)}")
    if value <= 0:
        raise ValueError(f"ttl must be a positive number of seconds or None, not {value}")
    return value


def max_scan_items(value: object) -> int | None:
    """A positive int of rows, or None for no bound."""
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"max_scan_items must be an int or None, not {kind_of(value)}")
    if value <= 0:
        raise ValueError(f"max_scan_items must be positive or None, not {value}")
    return value


def max_row_bytes(value: object) -> int:
    """A number of bytes that has room for a row."""
    if type(value) is not int:
        raise TypeError(f"max_row_bytes must be an int, not {kind_of(value)}")
    if value < _LEAST_ROW_BYTES:
        raise ValueError(f"max_row_bytes must be {_LEAST_ROW_BYTES:,} bytes or more, not {value}")
    return value


def limit(value: object) -> int | None:
    """A number of items from 0 up, or None."""
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"limit must be an int or None, not {kind_of(value)}")
    if value < 0:
        raise ValueError(f"limit must be 0 or more, not {value}")
    return value


def purge_on_add(value: object) -> int:
    """A number of rows from 0 up."""
    if type(value) is not int:
        raise TypeError(f"purge_on_add must be an int, not {kind_of(value)}")
    if value < 0:
        raise ValueError(f"purge_on_add must be 0 or more rows, not {value}")
    return value


def shield_s(value: object) -> float:
    """A number of seconds from 0 up."""
    return seconds(value, "shield_s")


def seconds(value: object, argument: str) -> float:
    """A number of seconds from 0 up."""
    if type(value) is not int and type(value) is not float:
        raise TypeError(f"{argument} must be a number of seconds, not {kind_of(value)}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{argument} must be 0 or more seconds, and finite, not {value}")
    return float(value)


def store_timeout_s(value: object) -> float | None:
    """A number of seconds above 0, or None for no bound."""
    if value is None:
        return None
    if type(value) is not int and type(value) is not float:
        raise TypeError(f"store_timeout_s must be a number of seconds or None, not {kind_of(value)}")
    if not 0 < value < math.inf:
        raise ValueError(f"store_timeout_s must be more than 0 seconds, and finite, or None for no limit, not {value}")
    return float(value)


def moment(value: object, argument: str) -> float | None:
    """A point in time as seconds since 1970, or None. A datetime without a time zone could be several."""
    if value is None:
        return None
    from datetime import datetime  # noqa: PLC0415 - an eighth of the time of importing this package, and rarely needed

    if not isinstance(value, datetime):
        raise TypeError(f"{argument} must be a datetime with a time zone or None, not {kind_of(value)}")
    if value.utcoffset() is None:
        raise ValueError(f"{argument} has no time zone; write for instance datetime(2026, 12, 1, tzinfo=timezone.utc)")
    return value.timestamp()


def on_event(value: object) -> Hook | None:
    """A function to be called with events, or None. With one, somebody listens in this process."""
    if value is None:
        return None
    from .events.hooks import checked_hook  # noqa: PLC0415 - most sessions have none

    hook = checked_hook(value)
    LISTENING.is_on = True
    return hook


def choice(value: object, argument: str, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be one of {', '.join(map(repr, choices))}, not {kind_of(value)}")
    if value not in choices:
        given = repr(value) if len(value) < 20 else f"a str of {len(value)} characters"
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, not {given}")
    return str(value)


def items(value: object) -> list[Any]:
    """A list of items."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"items must be a list of items, not {kind_of(value)}; nothing was written")
    return list(value)


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # holds the text: an error raised in here would carry it along
        return True
    return False


def kind_of(value: object) -> str:
    """What was given, for messages: its type, never the value."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else type(value).__name__
