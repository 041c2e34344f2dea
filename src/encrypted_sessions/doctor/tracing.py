"""Whether runs of the Agents SDK send what is said to a place that nothing here seals."""

from __future__ import annotations

import os
from importlib import metadata

from .diagnosis import Diagnosis

__all__ = ["with_tracing"]

_DISABLED = "OPENAI_AGENTS_DISABLE_TRACING"
_SENSITIVE = "OPENAI_AGENTS_TRACE_INCLUDE_SENSITIVE_DATA"


def with_tracing(found: Diagnosis) -> Diagnosis:
    """With a warning more, where the SDK is installed and no variable keeps items out of its traces."""
    warning = _warning()
    return found if warning is None else found._replace(warnings=(*found.warnings, warning))


def _warning() -> str | None:
    # The SDK is not imported for that: it takes a second.
    try:
        metadata.distribution("openai-agents")
    except metadata.PackageNotFoundError:
        return None
    # As the SDK reads them.
    if os.environ.get(_DISABLED, "false").lower() in {"true", "1"}:
        return None
    if os.environ.get(_SENSITIVE, "true").strip().lower() not in {"1", "true", "yes", "on"}:
        return None
    return (
        "the Agents SDK records what is said in runs in its traces, unencrypted, and sends them to OpenAI"
        f" by default; set {_SENSITIVE}=0 to leave content out, or {_DISABLED}=1 for no traces. If your code does this"
        " itself (RunConfig, set_tracing_disabled), this process cannot see it"
    )
