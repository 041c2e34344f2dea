"""Redis: the lists of RedisSession."""

from __future__ import annotations

from ..descriptor import StoreDescriptor

__all__ = ["REDIS"]

REDIS = StoreDescriptor(
    name="redis",
    rows={
        "agents.extensions.memory.redis_session.RedisSession": f"{__name__}.rows:RedisRows",
    },
    schemes=("redis", "rediss", "unix"),
    whole=f"{__name__}.whole:open_redis",
    url_form="redis://host:6379/0",
    url_example="redis://host:6379/0",
)
