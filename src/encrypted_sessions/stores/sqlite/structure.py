"""What the SDK's AdvancedSQLiteSession notes in the clear about an item that is stored sealed.

That class stores what `json.dumps` makes of an item, and asks the item itself for its role, its type and
its tool's name. So it gets a dict whose members are those of the envelope, and which answers for the item
when it is asked for one of these few names. Whatever else a release of the SDK may do with it, no
content is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["StructuredEnvelope", "problem_of"]

#: The members of an item that stay in the clear, as far as the SDK's class notes them in columns of its own. The name
#: of who wrote a message is none of them.
_OF_MESSAGES = ("role", "type")
_OF_OTHERS = ("type", "name", "namespace", "server_label")

#: What has to be the SDK's own, for what we know of it to hold.
_HOOKS = (
    "add_items",
    "_insert_items",
    "_insert_structure_metadata",
    "_classify_message_type",
    "_extract_tool_name",
    "_is_user_message",
)

_PROBE = {"type": "function_call", "name": "probe", "arguments": "{}"}


class StructuredEnvelope(dict[str, Any]):
    """An envelope that answers for the structure of the item that is sealed in it."""

    __slots__ = ("_structure",)

    def __init__(self, envelope: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        super().__init__(envelope)
        shown = _OF_MESSAGES if "role" in item else _OF_OTHERS
        self._structure = {name: item[name] for name in shown if name in item}

    def get(self, name: str, default: Any = None) -> Any:
        """A member of the item's structure."""
        return self._structure.get(name, default)

    def __getitem__(self, name: str) -> Any:
        return self._structure[name]

    def __contains__(self, name: object) -> bool:
        return name in self._structure


def problem_of(session: Any, sdk_class: type) -> str | None:
    """Why a session's structure cannot be told from an envelope, in words; None where it can be.

    `sdk_class` is the SDK's, of which the session is one, or one of a class made from it.
    """
    name = type(session).__name__
    missing = [hook for hook in _HOOKS if not callable(getattr(sdk_class, hook, None))]
    if missing:
        return (
            f"the AdvancedSQLiteSession of the installed Agents SDK has no {', '.join(missing)}: this release of"
            " encrypted-sessions does not support the way it stores items. Upgrade encrypted-sessions"
        )
    own = [hook for hook in _HOOKS if getattr(type(session), hook) is not getattr(sdk_class, hook)]
    if own:
        return (
            f"{name} has {', '.join(own)} of its own, which would see envelopes instead of items."
            " Use an AdvancedSQLiteSession, or a subclass that does not override these"
        )
    probe = StructuredEnvelope({"__enc__": 1}, _PROBE)
    user = StructuredEnvelope({"__enc__": 1}, {"role": "user"})
    found = (
        session._classify_message_type(probe),
        session._extract_tool_name(probe),
        session._is_user_message(probe),
        session._is_user_message(user),
    )
    if found != ("function_call", "probe", False, True):
        return (
            "the AdvancedSQLiteSession of the installed Agents SDK reads items in a way that this release of"
            " encrypted-sessions does not support, and would record turns and tools wrongly. Upgrade encrypted-sessions"
        )
    return None
