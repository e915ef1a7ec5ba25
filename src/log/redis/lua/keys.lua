-- The room that idempotency keys take in Redis. It stands after common.lua in the scripts that remember keys.
--
-- What the keys of one minute take counts in a hash, `{P:log}:key:bytes:<minute>`, with a field for each publisher and
-- an empty one for all. The hash expires with the last of these keys, so the counts of the last minutes are what there
-- is. A publisher may take as many bytes as are free after that: see src/log/idempotency.rs.
--
-- Errors do not end the script: between an entry and what notes it, that would double the entry later. A user of
-- Redis without the permissions for these commands has no bound.
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

  -- What keys that are written again already count: the bytes in each minute, and in all. The cursor that a key holds
  -- tells when it was written. What is not counted for this publisher stays as it is.
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

  -- The bytes of a key: its name, its value and what Redis needs beside them, and the publisher's field.
  function room.of(owner, key) return #key + #owner + 200 end

  -- Takes room for new keys. `again`: those of them that Redis has for a message that the log does not hold any more,
  -- each with its cursor and its bytes. Returns nothing, or how many ms later there may be room, or 0 if there never is.
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
