"""The rights that docs/redis.md lists."""

from __future__ import annotations

from typing import Final

__all__ = ["CHANGING", "ERASURE", "MAINTENANCE", "READING", "SCRIPTS", "SDK", "TRANSACTIONS"]

# What a session needs, with scripts and without.
SDK: Final = (
    *("+time", "+type", "+watch", "+unwatch", "+multi", "+exec"),
    *("+hset", "+hsetnx", "+rpush", "+del", "+pexpireat"),
)
READING: Final = ("+llen", "+lrange")
CHANGING: Final = ("+get", "+set", "+lindex", "+lset", "+lrem", "+rpop", "+ltrim", "+pttl", "+pexpire")
SCRIPTS: Final = ("+eval",)

# What commands over the whole store need, with scripts or with transactions.
MAINTENANCE: Final = (
    *("+info", "+scan", "+llen", "+lrange", "+hget", "+dbsize", "+time"),
    *("+get", "+set", "+lset", "+lrem"),
)
ERASURE: Final = ("+type", "+exists", "+del", "+unlink")
TRANSACTIONS: Final = ("+watch", "+unwatch", "+multi", "+exec", "+ping")
