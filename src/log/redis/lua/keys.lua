-- Counts and limits the memory that idempotency keys take in Redis. The scripts that remember keys contain this file
-- after common.lua.
--
-- For each minute, a hash (`{P:log}:key:bytes:<minute>`) counts the bytes of the keys of that minute. The hash has a
-- field for each publisher, and a field with an empty name for the sum. It expires with the last of these keys, so only
-- the counts of the last minutes exist. A publisher's keys may take at most as many bytes as stay free: see
-- src/log/idempotency.rs.
--
-- Errors of these commands do not end the script: if the script ended after it has appended an entry and before it has
-- recorded the entry, the entry would be appended again later. The limit does not apply to a user of Redis that does
-- not have the permissions for these commands.
local function key_room(limit, life)
  local now = now_ms()
  local minute, minutes = math.floor(now / 60000), math.ceil(life / 60000)
  local own, all, oldest = {}, 0, {}

  local function place(at) return '{' .. LOG .. '}:key:bytes:' .. string.format('%.0f', at) end

  local function count(owner)
    own[owner], all = 0, 0
    for at = minute - minutes, minute do
      local found = redis.pcall('HMGET', place(at), owner, '')
      local of_owner, of_all = tonumber(found[1] or 0) or 0, tonumber(found[2] or 0) or 0
      if of_owner > 0 and not oldest[owner] then oldest[owner] = at end
      if of_all > 0 and not oldest[''] then oldest[''] = at end
      own[owner], all = own[owner] + of_owner, all + of_all
    end
  end

  local room = {}

  -- The bytes that a key counts: its name, its value, the memory that Redis needs in addition, and the publisher's
  -- field.
  function room.of(owner, key) return #key + #owner + 200 end

  -- Takes room for new keys. Returns nothing if there is room; otherwise the number of ms after which there may be
  -- room, or 0 if there can never be room.
  function room.take(owner, bytes)
    if 2 * bytes > limit then return 0 end
    if not own[owner] then count(owner) end
    if own[owner] + bytes > limit - all - bytes then
      local since = oldest[owner] or oldest[''] or minute
      return math.max((since + minutes + 1) * 60000 - now, 1)
    end
    own[owner], all = own[owner] + bytes, all + bytes
    for _, field in ipairs({ owner, '' }) do
      redis.pcall('HINCRBY', place(minute), field, string.format('%.0f', bytes))
    end
    redis.pcall('PEXPIRE', place(minute), string.format('%.0f', life + 60000))
  end

  return room
end
