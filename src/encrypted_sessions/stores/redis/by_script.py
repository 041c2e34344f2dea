"""A session's list, read and changed by scripts: each runs as a whole or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..rows import Row
from .lists import MOST_FORESEEN, ListAccess, ListPage, Removal, RemovedElement
from .notes import NOTED_MS, note_of

__all__ = ["ListByScript"]

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
local before = redis.pcall('GET', KEYS[2])
if type(before) == 'string' then return tonumber(before) end
local changed = 1
"""
_NOTE = f"redis.pcall('SET', KEYS[2], changed, 'PX', {NOTED_MS})"
_DONE = f"""
{_NOTE}
return changed
"""
# A script that is stopped half-way leaves what it did: so it tries first, where nothing lies, what it may have no right
# to.
_MAY_REMOVE = "redis.call('LREM', KEYS[2], 0, mark)"

# number, newest, most bytes of the newest after that, then (position, element; empty for the newest) ... -> 1 if all
# were there unchanged and are gone now; then the newest that there is, with its position before it
_REMOVE = f"""{_ONCE}
local function and_newest(outcome)
  local last, element = redis.call('LLEN', KEYS[1]) - 1, redis.call('LINDEX', KEYS[1], -1)
  if element and #element <= tonumber(ARGV[3]) then return {{outcome, last, element}} end
  return {{outcome}}
end
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[2] then return and_newest(0) end
local first, count = tonumber(ARGV[4]), (#ARGV - 3) / 2
for i = 4, #ARGV, 2 do
  local expected = ARGV[i + 1] == '' and ARGV[2] or ARGV[i + 1]
  if redis.call('LINDEX', KEYS[1], ARGV[i]) ~= expected then return and_newest(0) end
  first = math.min(first, tonumber(ARGV[i]))
end
if first + count == redis.call('LLEN', KEYS[1]) then
  for _ = 1, count do redis.call('RPOP', KEYS[1]) end
else
  local mark = 'removed:' .. ARGV[1]
  {_MAY_REMOVE}
  for i = 4, #ARGV, 2 do redis.call('LSET', KEYS[1], ARGV[i], mark) end
  redis.call('LREM', KEYS[1], -count, mark)
end
{_NOTE}
return and_newest(1)
"""

# number, most elements to tell, most bytes of them, then (position, element) ... -> one more than the position of the
# newest if it was one of these and is gone now, else 0; then the position of the newest that there is, and it and those
# before it, newest first
_REMOVE_ONE_OF = f"""{_ONCE}
local last = redis.call('LLEN', KEYS[1]) - 1
local elements = redis.call('LRANGE', KEYS[1], -ARGV[2] - 1, -1)
changed = 0
for i = 4, #ARGV, 2 do
  if tonumber(ARGV[i]) == last and ARGV[i + 1] == elements[#elements] then changed = last + 1 end
end
if changed > 0 then
  redis.call('RPOP', KEYS[1])
  {_NOTE}
  last, elements[#elements] = last - 1, nil
end
local reply, left = {{changed, last}}, tonumber(ARGV[3])
for i = #elements, math.max(1, #elements - ARGV[2] + 1), -1 do
  left = left - #elements[i]
  if left < 0 then break end
  reply[#reply + 1] = elements[i]
end
return reply
"""

# number, then (position, element) ... -> how many of them were there unchanged and are gone now
_REMOVE_ANY = f"""{_ONCE}
local mark = 'removed:' .. ARGV[1]
{_MAY_REMOVE}
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
redis.call('PEXPIRE', KEYS[2], 1)
if expected == length then redis.call('DEL', KEYS[1])
else redis.call('LTRIM', KEYS[1], 0, length - expected - 1) end
for i = expected + 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
if expires_in > 0 then redis.call('PEXPIRE', KEYS[1], expires_in) end
{_DONE}"""


class ListByScript(ListAccess):
    """Scripts over the list at `key`. `send` runs a command, and gives its reply undecoded."""

    def __init__(self, send: Callable[..., Awaitable[Any]], key: str) -> None:
        self._send = send
        self._key = key

    async def page(self, upto: int | None, count: int, page_bytes: int, most: int) -> ListPage:
        """As `ListAccess.page`."""
        reply = await self._send("EVAL", _PAGE, 1, self._key, -1 if upto is None else upto, count, page_bytes, most)
        return ListPage(*reply)

    async def oldest(self, count: int, page_bytes: int, most: int) -> Sequence[bytes | None]:
        """As `ListAccess.oldest`."""
        elements: Sequence[bytes | None] = await self._send("EVAL", _OLDEST, 1, self._key, count, page_bytes, most)
        return elements

    async def remove(self, number: str, newest: bytes, rows: Sequence[Row]) -> Removal:
        """As `ListAccess.remove`."""
        # What is removed is the newest, nearly always: it need not be sent twice. An empty element is no envelope.
        sent = [row._replace(data=b"") if row.data == newest else row for row in rows]
        reply = await self._change(_REMOVE, number, newest, MOST_FORESEEN, *_positions(sent))
        if not isinstance(reply, list):  # what was noted when it was made
            return Removal(bool(reply), None)
        done, *rest = reply
        return Removal(bool(done), Row(*rest) if rest else None)

    async def remove_one_of(self, number: str, rows: Sequence[Row], tells: int) -> RemovedElement:
        """As `ListAccess.remove_one_of`."""
        reply = await self._change(_REMOVE_ONE_OF, number, tells, MOST_FORESEEN, *_positions(rows))
        if not isinstance(reply, list):  # what was noted when it was made
            return RemovedElement(reply - 1, ())
        changed, newest, *elements = reply
        return RemovedElement(changed - 1, [Row(newest - place, element) for place, element in enumerate(elements)])

    async def remove_any(self, number: str, rows: Sequence[Row]) -> int:
        """As `ListAccess.remove_any`."""
        return int(await self._change(_REMOVE_ANY, number, *_positions(rows)))

    async def replace_tail(self, number: str, old: Sequence[bytes], new: Sequence[str]) -> bool:
        """As `ListAccess.replace_tail`."""
        return bool(await self._change(_REPLACE_TAIL, number, len(old), *old, *new))

    async def _change(self, script: str, number: str, *arguments: object) -> Any:
        note = note_of(self._key.encode("utf-8"), number)
        return await self._send("EVAL", script, 2, self._key, note, number, *arguments)


def _positions(rows: Sequence[Row]) -> list[object]:
    return [argument for row in rows for argument in (row.id, row.data)]
