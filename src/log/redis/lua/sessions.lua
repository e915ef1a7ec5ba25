-- The beginning of the scripts of sessions, behind that of presence, whose clock they use: see src/log/sessions/mod.rs.
--
--   sessions:due            the sessions, by their deadlines
--   sessions:in:<channel>   the sessions that read a channel, as `<place> <id>`
--   session:<id>            a hash: bookmark, cursor, channels (joined with `,`)
local SESSIONS = '{' .. LOG .. '}:sessions:'
local DUE_SESSIONS = SESSIONS .. 'due'

local function record(id) return '{' .. LOG .. '}:session:' .. id end

local function listed(id) return redis.sha1hex(id) .. ' ' .. id end

local function each(names, act)
  for name in string.gmatch(names or '', '[^,]+') do act(SESSIONS .. 'in:' .. name) end
end

local function set_channels(id, before, after)
  each(before, function(key) redis.call('ZREM', key, listed(id)) end)
  each(after, function(key) redis.call('ZADD', key, 0, listed(id)) end)
end

-- Writes what a node says about a session. A position before the known one moves only the deadline.
local function write_session(id, bookmark, cursor, ends_in, channels)
  local known = redis.call('HGET', record(id), 'cursor')
  local before, epoch = string.match(known or '', '^(%d+%-%d+)%.(%w+)$')
  local now, now_epoch = string.match(cursor, '^(%d+%-%d+)%.(%w+)$')
  if not before or epoch ~= now_epoch or not less(now, before) then
    if bookmark ~= '' then
      set_channels(id, redis.call('HGET', record(id), 'channels'), channels)
      redis.call('HSET', record(id), 'bookmark', bookmark, 'channels', channels)
    end
    redis.call('HSET', record(id), 'cursor', cursor)
  end
  redis.call('ZADD', DUE_SESSIONS, score(clock + tonumber(ends_in)), id)
end

-- Removes a session. Returns its bookmark and its position, or nothing if it is not there.
local function remove_session(id)
  redis.call('ZREM', DUE_SESSIONS, id)
  local found = redis.call('HMGET', record(id), 'bookmark', 'cursor', 'channels')
  if not found[1] then return nil end
  set_channels(id, found[3], '')
  redis.call('DEL', record(id))
  return found[1], found[2]
end
