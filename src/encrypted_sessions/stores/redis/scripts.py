"""What Redis runs for maintenance: each script changes one session, as a whole or not at all.

Elements of a list have no names, only positions, and these shift when somebody removes what lies
before. So an element counts as what was read only together with its bytes: it is looked for at its
position, and else a little before it.
"""

from __future__ import annotations

__all__ = ["ERASE", "LOOK_BACK", "NOTED_MS", "PART", "REMOVE", "REPLACE"]

#: How far before its position an element is looked for: others may have purged so many meanwhile.
LOOK_BACK = 5_000

#: How long a note is kept, where its reply does not come.
NOTED_MS = 600_000

# Who lost the reply sends the script again (redis-py does so by itself). Each change has a number of its
# own, noted beside the list with its outcome, so that the second time it is only confirmed. The note goes
# when the reply has come, else after ten minutes.
_ONCE = """
local before = redis.pcall('GET', KEYS[2])
if type(before) == 'string' then return before end
"""
_DONE = f"""
local outcome = table.concat(done)
redis.pcall('SET', KEYS[2], outcome, 'PX', {NOTED_MS})
return outcome
"""

# Calls `change(offset, new)` for each element that is there, and notes which are. What was read and
# what is to come stand one after another in ARGV[5], their positions and lengths in ARGV[4]: so many arguments
# would take longer to send than to work on. Large ones go on in further arguments.
_EACH = f"""
local from, to = tonumber(ARGV[2]), tonumber(ARGV[3])
local done, lost, missing = {{}}, {{}}, 0
local there = redis.call('TYPE', KEYS[1]).ok == 'list' and redis.call('LRANGE', KEYS[1], from, to) or {{}}
local number, ends = 0, 0
local all = ARGV[6] and table.concat(ARGV, '', 5) or ARGV[5]
for offset, old, new in string.gmatch(ARGV[4], '(%d+),(%d+),(%d+)') do
  local element = string.sub(all, ends + 1, ends + old)
  local other = string.sub(all, ends + old + 1, ends + old + new)
  number, ends = number + 1, ends + old + new
  if there[offset - from + 1] == element then
    change(offset, other)
    there[offset - from + 1] = false
    done[number] = '1'
  else
    done[number] = '0'
    lost[element] = lost[element] or {{}}
    table.insert(lost[element], 1, {{number, other}})
    missing = missing + 1
  end
end
if missing > 0 and #there > 0 then
  local first = math.max(0, from - {LOOK_BACK})
  local before = from > 0 and redis.call('LRANGE', KEYS[1], first, from - 1) or {{}}
  for offset = from + #there - 1, first, -1 do
    local element = offset >= from and there[offset - from + 1] or before[offset - first + 1]
    local alike = element and lost[element]
    if alike and #alike > 0 then
      local found = table.remove(alike)
      change(offset, found[2])
      done[found[1]] = '1'
    end
  end
end
"""


#: The list, the note; number, first and last position, "position,length,length of the new ...", the elements ->
#: a 1 or 0 for each.
REPLACE = f"""{_ONCE}
local function change(offset, new) redis.call('LSET', KEYS[1], offset, new) end
{_EACH}{_DONE}"""

#: The same with new elements that have no length.
REMOVE = f"""{_ONCE}
local mark, marked = 'removed:' .. ARGV[1], 0
redis.call('LREM', KEYS[2], 0, mark)  -- nothing lies there: a missing right shows before anything is changed
local function change(offset)
  redis.call('LSET', KEYS[1], offset, mark)
  marked = marked + 1
end
{_EACH}
if marked > 0 then
  local nearer_to_the_end = from + to > redis.call('LLEN', KEYS[1])
  redis.call('LREM', KEYS[1], nearer_to_the_end and -marked or marked, mark)
end
{_DONE}"""

#: First and last position, the bytes of a page, the most bytes of an element, 1 to begin with the last -> the position
#: of the element that came first, and the elements in that order; of one that is too large, its size.
PART = """
local from, to, left, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local backwards, begin, found, step = ARGV[5] == '1', -1, {}, 1
while from <= to and left > 0 do
  local first = backwards and math.max(from, to - step + 1) or from
  local last = backwards and to or math.min(to, from + step - 1)
  local some, largest = redis.call('LRANGE', KEYS[1], first, last), 1
  for i = 1, #some do
    local at = backwards and #some - i + 1 or i
    if left > 0 then
      if begin < 0 then begin = first + at - 1 end
      largest = math.max(largest, #some[at])
      if #some[at] > most then found[#found + 1] = #some[at]
      else
        found[#found + 1] = some[at]
        left = left - #some[at]
      end
    end
  end
  if backwards then to = first - 1 else from = last + 1 end
  step = math.max(1, math.min(2 * step, 16, math.floor(left / largest)))
end
return {begin, found}
"""

#: The session's hash, list and counter; its id, and 1 to remove them -> how many there are of each.
ERASE = """
for i, expected in ipairs({'hash', 'list', 'string'}) do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= expected then
    return redis.error_reply('NOTOURS ' .. KEYS[i] .. ' is not a ' .. expected .. ' but a ' .. kind)
  end
end
local owner = redis.call('HGET', KEYS[1], 'session_id')
if owner and owner ~= ARGV[1] then
  return redis.error_reply('NOTOURS ' .. KEYS[1] .. ' belongs to a session with another id')
end
local found = {redis.call('EXISTS', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('EXISTS', KEYS[3])}
if ARGV[2] == '1' then redis.call('DEL', KEYS[1], KEYS[2], KEYS[3]) end
return found
"""
