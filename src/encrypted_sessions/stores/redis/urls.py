"""From a URL of Redis to its store."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...errors import StoreConfigError
from ..addresses import StoreNames, StoreUrl

if TYPE_CHECKING:
    from .whole import RedisStore

__all__ = ["open_redis"]


def open_redis(url: StoreUrl, names: StoreNames) -> RedisStore:
    """The store of a Redis database."""
    if find_spec("redis") is None:
        raise StoreConfigError("Redis needs redis; pip install 'encrypted-sessions[redis]'")
    from .whole import RedisStore  # noqa: PLC0415 - once the SDK is known to be there

    return RedisStore(url.text, names.key_prefix)
