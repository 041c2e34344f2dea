"""The SDKs of the providers: imported when they are used, and missed in words that help."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import ProviderConfigError

__all__ = ["import_sdk"]


def import_sdk(module: str, extra: str) -> Any:
    """The module of an SDK that belongs to one of the project's extras.

    Raises ProviderConfigError when that SDK is not installed. A module that it misses itself is no
    business of ours and passes as it is.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != root:
            raise
        problem = f"this needs {root}, which is not installed; pip install 'encrypted-sessions[{extra}]'"
    raise ProviderConfigError(problem)
