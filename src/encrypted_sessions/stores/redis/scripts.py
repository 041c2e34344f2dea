"""What Redis runs for maintenance: each script changes one session, as a whole or not at all.

Elements of a list have no names, only places, and a place moves when somebody removes what lies
before it. So an element counts as what was read only together with its bytes: it is looked for at its
place, and else a little before it.
"""

from __future__ import annotations

__all__ = ["ERASE", "REMOVE", "REPLACE", "note_of"]

#: How far before its place an element is looked for: others may have purged so many meanwhile.
_LOOK_BACK = 5_000

# Who lost the reply sends the script again (redis-py does so by itself). Each change has a number of its
# own, noted beside the list with its outcome, so that the second time it is only confirmed. The note goes
# when the reply has come, else after ten minutes.
_ONCE = """
local noted = KEYS[1] .. ':change:' .. ARGV[1]
local before = redis.pcall('GET', noted)
if type(before) == 'string' then return before end
"""
_DONE = """
local outcome = table.concat(done)
redis.pcall('SET', noted, outcome, 'PX', 600000)
return outcome
"""

# Calls `change(place, new)` for each element that is there, and notes which are. What was read and
# what is to come stand one after another in ARGV[5], their places and lengths in ARGV[4]: so many arguments
# would take longer to send than to work on.
_EACH = f"""
local from, to = tonumber(ARGV[2]), tonumber(ARGV[3])
local done, lost, missing = {{}}, {{}}, 0
local there = redis.call('TYPE', KEYS[1]).ok == 'list' and redis.call('LRANGE', KEYS[1], from, to) or {{}}
local number, ends = 0, 0
for place, old, new in string.gmatch(ARGV[4], '(%d+),(%d+),(%d+)') do
  local element = string.sub(ARGV[5], ends + 1, ends + old)
  local other = string.sub(ARGV[5], ends + old + 1, ends + old + new)
  number, ends = number + 1, ends + old + new
  if there[place - from + 1] == element then
    change(place, other)
    there[place - from + 1] = false
    done[number] = '1'
  else
    done[number] = '0'
    lost[element] = lost[element] or {{}}
    table.insert(lost[element], 1, {{number, other}})
    missing = missing + 1
  end
end
if missing > 0 and #there > 0 then
  local first = math.max(0, from - {_LOOK_BACK})
  local before = from > 0 and redis.call('LRANGE', KEYS[1], first, from - 1) or {{}}
  for place = from + #there - 1, first, -1 do
    local element = place >= from and there[place - from + 1] or before[place - first + 1]
    local alike = element and lost[element]
    if alike and #alike > 0 then
      local found = table.remove(alike)
      change(place, found[2])
      done[found[1]] = '1'
    end
  end
end
"""


def note_of(key: bytes, number: str) -> bytes:
    """The key of the note that a change leaves."""
    return key + b":change:" + number.encode("ascii")


#: Number, first and last place, "place,length,length of the new ...", the elements -> a 1 or 0 for each.
REPLACE = f"""{_ONCE}
local function change(place, new) redis.call('LSET', KEYS[1], place, new) end
{_EACH}{_DONE}"""

#: The same with new elements that have no length.
REMOVE = f"""{_ONCE}
local mark, marked = 'removed:' .. ARGV[1], 0
local function change(place)
  redis.call('LSET', KEYS[1], place, mark)
  marked = marked + 1
end
{_EACH}
if marked > 0 then
  local nearer_to_the_end = from + to > redis.call('LLEN', KEYS[1])
  redis.call('LREM', KEYS[1], nearer_to_the_end and -marked or marked, mark)
end
{_DONE}"""

#: The session's hash, list and counter; its id, and 1 to remove them -> how many there are of each.
ERASE = """
for i, expected in ipairs({'hash', 'list', 'string'}) do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= expected then
    return redis.error_reply('NOTOURS ' .. KEYS[i] .. ' is no ' .. expected .. ' but a ' .. kind)
  end
end
local owner = redis.call('HGET', KEYS[1], 'session_id')
if owner and owner ~= ARGV[1] then
  return redis.error_reply('NOTOURS ' .. KEYS[1] .. ' belongs to a session of another id')
end
local found = {redis.call('EXISTS', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('EXISTS', KEYS[3])}
if ARGV[2] == '1' then redis.call('DEL', KEYS[1], KEYS[2], KEYS[3]) end
return found
"""
