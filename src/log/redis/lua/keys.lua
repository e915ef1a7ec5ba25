-- Counts and limits the memory that idempotency keys take in Redis. The scripts that remember keys contain this file
-- after common.lua.
--
-- For each minute, a hash (`{P:log}:key:bytes:<minute>`) counts the bytes of the keys of that minute. The hash has a
-- field for each publisher, and a field with an empty name for the sum. It expires with the last of these keys, so only
-- the counts of the last minutes exist. A publisher's keys may take at most as many bytes as are still free in the
-- limit: see src/log/idempotency.rs.
--
-- Errors of these commands do not end the script: if the script ended after it has appended an entry and before it has
-- recorded the entry, the entry would be appended again later. The limit does not apply to a user of Redis that does
-- not have the permissions for these commands.
local function key_room(limit, life)
  local now = now_ms()
  local minute, minutes = math.floor(now / 60000), math.ceil(life / 60000)
  local own, all, oldest, counts = {}, 0, {}, {}

  local function place(at) return '{' .. LOG .. '}:key:bytes:' .. string.format('%.0f', at) end

  local function count(owner)
    own[owner], all, counts[owner] = 0, 0, {}
    for at = minute - minutes, minute do
      local found = redis.pcall('HMGET', place(at), owner, '')
      local of_owner, of_all = tonumber(found[1] or 0) or 0, tonumber(found[2] or 0) or 0
      if of_owner > 0 and not oldest[owner] then oldest[owner] = at end
      if of_all > 0 and not oldest[''] then oldest[''] = at end
      own[owner], all, counts[owner][at] = own[owner] + of_owner, all + of_all, of_owner
    end
  end

  local function add(at, owner, bytes)
    own[owner], all = own[owner] + bytes, all + bytes
    counts[owner][at] = (counts[owner][at] or 0) + bytes
    for _, field in ipairs({ owner, '' }) do
      redis.pcall('HINCRBY', place(at), field, string.format('%.0f', bytes))
    end
  end

  -- The bytes that are already counted for keys that are written again: in each minute, and in total. The cursor that a
  -- key holds tells when the key was written. Bytes that are not counted for this publisher are left out.
  local function counted(owner, again)
    local bytes, sum = {}, 0
    for _, key in ipairs(again) do
      local at = math.floor(tonumber(string.match(key.cursor, '^%d+') or 0) / 60000)
      local so_far = bytes[at] or 0
      if so_far + key.bytes <= (counts[owner][at] or 0) then
        bytes[at], sum = so_far + key.bytes, sum + key.bytes
      end
    end
    return bytes, sum
  end

  local room = {}

  -- The bytes that a key counts: its name, its value, the memory that Redis needs in addition, and the publisher's
  -- field.
  function room.of(owner, key) return #key + #owner + 200 end

  -- Takes room for new keys. `again` has those of them that Redis keeps for a message that the log does not hold any
  -- more, each with its cursor and its bytes. Returns nothing if there is room; otherwise the number of ms after which
  -- there may be room, or 0 if there can never be room.
  function room.take(owner, bytes, again)
    if 2 * bytes > limit then return 0 end
    if not own[owner] then count(owner) end
    local before, freed = counted(owner, again)
    if own[owner] - freed + bytes > limit - (all - freed) - bytes then
      local since = oldest[owner] or oldest[''] or minute
      return math.max((since + minutes + 1) * 60000 - now, 1)
    end
    for at, part in pairs(before) do add(at, owner, -part) end
    add(minute, owner, bytes)
    redis.pcall('PEXPIRE', place(minute), string.format('%.0f', life + 60000))
  end

  return room
end
