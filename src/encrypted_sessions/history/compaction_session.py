"""A caller's compaction session with the encryption put in, between it and the store that it was made around."""

from __future__ import annotations

import types
from functools import lru_cache
from typing import Any

__all__ = ["HOOKS", "compaction_around"]

#: What the SDK's Runner, and who compacts by hand, look for on a session that compacts.
HOOKS = frozenset(
    {
        "_add_items_with_generation",
        "_clear_deferred_compaction",
        "_defer_compaction",
        "_get_deferred_compaction_response_id",
        "_get_items_with_generation",
        "run_compaction",
    }
)

#: What the two do not have in common: what lies beneath, and what was seen there (items, or envelopes).
_APART = ("underlying_session", "_compaction_candidate_items", "_session_items")


def compaction_around(sealing: Any, compaction: Any) -> Any:
    """`compaction` as if it had been made around `sealing`, and not around the store itself.

    The caller's own stays as it is. Everything else is one and the same for both, also when it is set later: the
    lock, the client, the threshold, what was deferred. It keeps no state itself, and is made for each call: a
    session that held one would hold itself.
    """
    made = object.__new__(_class_around(type(compaction)))
    for name, value in {"__dict__": vars(compaction), **dict.fromkeys(_APART), "underlying_session": sealing}.items():
        object.__setattr__(made, name, value)  # a class of the caller's may have a way of its own
    return made


@lru_cache(maxsize=64)
def _class_around(compaction_class: type) -> type:
    """The class, with places for what is apart: a slot comes before the attribute of that name in `__dict__`."""
    members = {
        "__slots__": _APART,
        "__module__": compaction_class.__module__,
        "__qualname__": compaction_class.__qualname__,
    }
    return types.new_class(
        compaction_class.__name__, (compaction_class,), exec_body=lambda names: names.update(members)
    )
