"""Rows of the SDK's RedisSession: elements of a list, changed by scripts.

A script runs as a whole or not at all. Replies are read undecoded, so that a client with
`decode_responses=True` can look at a row that is not UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from redis.client import NEVER_DECODE

from ..rows import TOO_LARGE, CutPage, Row, RowStore, bytes_of_page
from ..sizes import PAGE_BYTES

if TYPE_CHECKING:
    from agents.extensions.memory import RedisSession

__all__ = ["RedisRows"]

# Elements from one position to another, in either direction, up to the bytes of a page; nil for one that is too large.
# How large elements are only those say that were looked at: so there are few at first.
_TAKE = """
local function take(from, to, step, left, most)
  local found, some, largest = {}, 1, 1
  while left > 0 and (to - from) * step >= 0 do
    local ends = step > 0 and math.min(to, from + some - 1) or math.max(to, from - some + 1)
    local elements = redis.call('LRANGE', KEYS[1], math.min(from, ends), math.max(from, ends))
    for i = 1, #elements do
      local element = elements[step > 0 and i or #elements - i + 1]
      largest = math.max(largest, #element)
      if left > 0 then
        if #element > most then found[#found + 1] = false
        else
          found[#found + 1] = element
          left = left - #element
        end
      end
    end
    from = ends + step
    some = math.max(1, math.min(4 * some, 64, math.floor(left / largest)))
  end
  return found
end
"""

# upto (-1: the newest), count, bytes of the page, most bytes of an element -> the position of the newest element,
# elements newest first, and how many there would have been
_PAGE = f"""{_TAKE}
local last = redis.call('LLEN', KEYS[1]) - 1
local upto = tonumber(ARGV[1])
if upto >= 0 and upto < last then last = upto elseif upto > last then return {{-1, {{}}, 0}} end
local first = math.max(0, last - tonumber(ARGV[2]) + 1)
return {{last, take(last, first, -1, tonumber(ARGV[3]), tonumber(ARGV[4])), last - first + 1}}
"""

# count, bytes of the page, most bytes of an element -> elements oldest first
_OLDEST = f"""{_TAKE}
local last = math.min(redis.call('LLEN', KEYS[1]), tonumber(ARGV[1])) - 1
return take(0, last, 1, tonumber(ARGV[2]), tonumber(ARGV[3]))
"""

# A client that lost the reply sends the script again (redis-py does so by itself). Each change has a
# number of its own, noted for a while beside the list, so that the second time it is only confirmed.
_ONCE = """
local done = KEYS[1] .. ':change:' .. ARGV[1]
local before = redis.pcall('GET', done)
if type(before) == 'string' then return tonumber(before) end
local changed = 1
"""
_DONE = """
redis.pcall('SET', done, changed, 'PX', 60000)
return changed
"""

# number, newest, then (position, element) ... -> 1 if all were there unchanged and are gone now
_REMOVE = f"""{_ONCE}
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[2] then return 0 end
for i = 3, #ARGV, 2 do
  if redis.call('LINDEX', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
local mark = 'removed:' .. ARGV[1]
for i = 3, #ARGV, 2 do redis.call('LSET', KEYS[1], ARGV[i], mark) end
redis.call('LREM', KEYS[1], 0, mark)
{_DONE}"""

# number, then (position, element) ... -> how many of them were there unchanged and are gone now
_REMOVE_ANY = f"""{_ONCE}
local mark = 'removed:' .. ARGV[1]
changed = 0
for i = 2, #ARGV, 2 do
  if redis.call('LINDEX', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('LSET', KEYS[1], ARGV[i], mark)
    changed = changed + 1
  end
end
if changed > 0 then redis.call('LREM', KEYS[1], changed, mark) end
{_DONE}"""

# number, how many expected, expected oldest first ..., new oldest first ... -> 1 if replaced
_REPLACE_TAIL = f"""{_ONCE}
local expected = tonumber(ARGV[2])
local length = redis.call('LLEN', KEYS[1])
if length < expected or (expected == 0 and length > 0) then return 0 end
for i = 1, expected do
  if redis.call('LINDEX', KEYS[1], i - expected - 1) ~= ARGV[i + 2] then return 0 end
end
local expires_in = redis.call('PTTL', KEYS[1])
if expected == length then redis.call('DEL', KEYS[1])
else redis.call('LTRIM', KEYS[1], 0, length - expected - 1) end
for i = expected + 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
if expires_in > 0 then redis.call('PEXPIRE', KEYS[1], expires_in) end
{_DONE}"""


class RedisRows(RowStore):
    """Rows by their position in the list, which only counts together with their bytes."""

    NEEDS: ClassVar[tuple[str, ...]] = (
        "_check_not_closed",
        "_messages_key",
        "_redis",
        "_serialize_item",
    )
    IDS_ARE_POSITIONS: ClassVar[bool] = True

    def __init__(self, session: RedisSession) -> None:
        self._session: Any = session  # what it needs is not public: see stores/__init__

    async def _run(self, script: str, *arguments: object) -> Any:
        return await self._command("EVAL", script, 1, self._session._messages_key, *arguments)

    async def _command(self, *words: object) -> Any:
        self._session._check_not_closed()
        return await self._session._redis.execute_command(*words, **{NEVER_DECODE: True})

    def reads_end_when_cancelled(self) -> bool:
        """As `RowStore.reads_end_when_cancelled`: the client drops its connection."""
        return True

    async def page(self, upto: Row | None, count: int) -> list[Row]:
        """As `RowStore.page`."""
        newest, elements, wanted = await self._run(
            _PAGE, -1 if upto is None else upto.id, count, bytes_of_page(upto), self.max_row_bytes
        )
        rows = [Row(newest - offset, TOO_LARGE if data is None else data) for offset, data in enumerate(elements)]
        return rows if len(rows) == wanted else CutPage(rows)

    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        """As `RowStore.remove`."""
        positions = [argument for row in rows for argument in (row.id, row.data)]
        return bool(await self._run(_REMOVE, os.urandom(16).hex(), newest.data, *positions))

    async def oldest(self, count: int) -> list[Row]:
        """As `RowStore.oldest`."""
        elements = await self._run(_OLDEST, count, PAGE_BYTES, self.max_row_bytes)
        return [Row(offset, TOO_LARGE if data is None else data) for offset, data in enumerate(elements)]

    async def remove_any(self, rows: Sequence[Row]) -> int:
        """As `RowStore.remove_any`."""
        positions = [argument for row in rows for argument in (row.id, row.data)]
        return int(await self._run(_REMOVE_ANY, os.urandom(16).hex(), *positions))

    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        """As `RowStore.replace_tail`. A time to live of the key stays what it was."""
        new = [await self._session._serialize_item(envelope) for envelope in envelopes]
        old = [row.data for row in expected]
        return bool(await self._run(_REPLACE_TAIL, os.urandom(16).hex(), len(old), *old, *new))
