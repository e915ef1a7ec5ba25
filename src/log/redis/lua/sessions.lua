-- The beginning of the scripts of sessions, behind that of presence, whose clock they use: see src/log/sessions/mod.rs.
-- ARGV[2] of each script is the name of the node.
--
--   sessions:due            the sessions, by their deadlines
--   sessions:in:<channel>   the sessions that read a channel, as `<place> <id>`
--   session:<id>            a hash: bookmark, cursor, channels (joined with `,`), held (the deadlines that nodes have
--                           given, as `<node> <deadline>`), indexed (when all channels were written last)
--
-- A session ends at the latest of its nodes' deadlines: a node that loses its last stream of a session does not end what
-- lives at another node. If all nodes are away for good, the keys expire.
local NODE = ARGV[2]
local SESSIONS = '{' .. LOG .. '}:sessions:'
local DUE_SESSIONS = SESSIONS .. 'due'
local KEPT, INDEX_AGAIN = 86400000, 21600000

-- How many channels one script writes or removes at most, apart from those of one session.
local MOST_CHANNELS = 4000

local function record(id) return '{' .. LOG .. '}:session:' .. id end

local function listed(id) return redis.sha1hex(id) .. ' ' .. id end

local function keep(key) redis.call('PEXPIRE', key, score(KEPT)) end

local function set_of(names)
  local set, count = {}, 0
  for name in string.gmatch(names or '', '[^,]+') do set[name], count = true, count + 1 end
  return set, count
end

-- Makes a session be found by its channels. `again`: also by those by which it is found already.
local function set_channels(id, before, after, again)
  local had, count = set_of(before)
  local has = set_of(after)
  for name in pairs(had) do
    if not has[name] then redis.call('ZREM', SESSIONS .. 'in:' .. name, listed(id)) end
  end
  for name in pairs(has) do
    if again or not had[name] then
      redis.call('ZADD', SESSIONS .. 'in:' .. name, 0, listed(id))
      keep(SESSIONS .. 'in:' .. name)
    end
  end
  return count
end

-- Sets this node's deadline of a session. `held`: the deadlines as they are known. `least`: whether the node's known
-- deadline counts, too, if it is later.
local function hold(id, held, due, least)
  local all, last = {}, due
  for node, other in string.gmatch(held or '', '(%S+) (%d+)') do
    other = tonumber(other)
    if node == NODE then
      if least then due = math.max(due, other) end
    elseif other > clock then
      all[#all + 1] = node .. ' ' .. score(other)
      last = math.max(last, other)
    end
  end
  all[#all + 1] = NODE .. ' ' .. score(due)
  redis.call('HSET', record(id), 'held', table.concat(all, ' '))
  redis.call('ZADD', DUE_SESSIONS, score(math.max(last, due)), id)
  keep(record(id))
  keep(DUE_SESSIONS)
end

-- Whether a position replaces the known one: it is not before it, and not one of an earlier epoch.
local function replaces(cursor, known)
  local before, epoch = string.match(known or '', '^(%d+%-%d+)%.(%w+)$')
  local now, now_epoch = string.match(cursor, '^(%d+%-%d+)%.(%w+)$')
  if not before then return true end
  if epoch == now_epoch then return not less(now, before) end
  return now_epoch == log.epoch or epoch ~= log.epoch
end

-- Writes what a node says about a session. `base`: the digest of the bookmark that the node knows (or nothing). A
-- position before the known one, or one of a node that knows another bookmark, moves only the deadline. If something else
-- than the deadline was not taken, returns the known bookmark and its position.
local function write_session(id, bookmark, cursor, ends_in, channels, base)
  local known = redis.call('HMGET', record(id), 'cursor', 'held', 'channels', 'indexed', 'bookmark')
  local is_same = base == '' or string.sub(redis.sha1hex(known[5] or ''), 1, 16) == base
  local is_taken = is_same and replaces(cursor, known[1])
  if is_taken then
    redis.call('HSET', record(id), 'cursor', cursor)
    local indexed = tonumber(known[4] or '0')
    local again = indexed > clock or clock - indexed > INDEX_AGAIN
    if bookmark == '' then channels = known[3] else redis.call('HSET', record(id), 'bookmark', bookmark, 'channels', channels) end
    if again then redis.call('HSET', record(id), 'indexed', score(clock)) end
    set_channels(id, known[3], channels, again)
  end
  hold(id, known[2], clock + tonumber(ends_in), false)
  if not is_taken and (not is_same or bookmark ~= '') then return known[5], known[1] end
end

-- Removes a session. Returns its bookmark, its position and the number of its channels, or nothing if it is not there.
local function remove_session(id)
  redis.call('ZREM', DUE_SESSIONS, id)
  local found = redis.call('HMGET', record(id), 'bookmark', 'cursor', 'channels')
  if not found[1] then return nil end
  local count = set_channels(id, found[3], '')
  redis.call('DEL', record(id))
  return found[1], found[2], count
end
