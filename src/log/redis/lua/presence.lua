-- The beginning of the scripts of presence: see src/log/presence/mod.rs for the words and the rules, and
-- src/log/presence/record.rs for the same in memory.
--
--   presence:clock             the presence clock, the time when it was moved last, and when it last went back, in ms
--   presence:leases            the leases, by the time at which each lapses
--   presence:calls             a hash: for each lease, the number of the last call that found all answered calls before it
--   presence:lease:<lease>     a set: the connections that hang on the lease, as `<channel> <connection>`
--   presence:due               the connections with a deadline, as `<channel> <connection>`, by the deadline
--   presence:at:<channel>      a hash: connections, as `<lease, or -> <digest of the user's JSON> <user's id>`
--   presence:replaced          the polling clients whose place a stream has taken, as `<channel> <connection>`, by the
--                              time of the machine when the stream began
--   presence:of:<channel>      a hash: members by the user's id, as `<number of connections> <the user's JSON>`
--   presence:channels          the channels that have members, of score 0
--
-- A name of a channel or a lease has no space.
local HERE = '{' .. LOG .. '}:presence:'
local LEASES, DUE, REPLACED = HERE .. 'leases', HERE .. 'due', HERE .. 'replaced'
local KEPT_REPLACED = 600000
local GRACE, STALL, STEP_BACK, STEP_BACK_EVERY = 5000, 2000, 3000, 10000

local log = ensure()
if log.server ~= SERVER then return redis.error_reply('FORK the log was opened at another server') end
local added, newest = log.added or stream().added, nil

-- The presence clock, in the scripts that move it.
local clock

local function score(time) return string.format('%.0f', time) end

-- Moves the presence clock, and returns it.
local function tick()
  local now = now_ms()
  local at, moved, back = string.match(redis.call('GET', HERE .. 'clock') or '', '^(%d+) (%d+) (%d+)$')
  -- The clock can go back, so it does not begin at zero.
  at, moved, back = tonumber(at or 1000000), tonumber(moved or now), tonumber(back or 0)
  local passed = math.max(now - moved, 0)
  if passed <= STALL then
    at = at + passed
  elseif now - back >= STEP_BACK_EVERY then
    at, back = math.max(at - STEP_BACK, 0), now
  end
  redis.call('SET', HERE .. 'clock', string.format('%.0f %.0f %.0f', at, now, back))
  return at
end

-- Notes a call on a lease, and begins the lease if it is not known. `answered` is the number of the last call that the
-- node got an answer to. Returns whether that call is known.
local function follow(lease, number, answered)
  redis.call('ZADD', LEASES, 'NX', score(clock + GRACE), lease)
  local last = tonumber(redis.call('HGET', HERE .. 'calls', lease) or '0')
  local follows = last >= answered
  if follows then redis.call('HSET', HERE .. 'calls', lease, score(number)) end
  return follows
end

-- Appends an entry about a member.
local function append(kind, channel, data)
  newest = redis.call('XADD', LOG, '*', 'v', '2', 'channel', channel, 'data', data, 'event', kind, 'kind', kind)
  added = added + 1
end

-- The lease (or `-`), the digest and the user of a connection; nothing if it is not there.
local function find(channel, connection)
  local value = redis.call('HGET', HERE .. 'at:' .. channel, connection)
  if not value then return nil end
  return string.match(value, '^(%S+) (%x+) (.*)$')
end

-- The number of a member's connections, and its JSON.
local function member_of(channel, user)
  local value = redis.call('HGET', HERE .. 'of:' .. channel, user)
  if not value then return 0, nil end
  local count, data = string.match(value, '^(%d+) (.*)$')
  return tonumber(count), data
end

local function set_member(channel, user, count, data)
  redis.call('HSET', HERE .. 'of:' .. channel, user, string.format('%d', count) .. ' ' .. data)
end

local function unhang(channel, connection, lease)
  if lease == '-' then
    redis.call('ZREM', DUE, channel .. ' ' .. connection)
  else
    redis.call('SREM', HERE .. 'lease:' .. lease, channel .. ' ' .. connection)
  end
end

-- Sets the deadline of a connection that ends in `ends_in` ms. A deadline that it has already does not move back: the
-- client may poll another node by now.
local function set_deadline(channel, connection, ends_in)
  redis.call('ZADD', DUE, 'GT', score(clock + tonumber(ends_in)), channel .. ' ' .. connection)
end

-- Removes a connection, and its user if it has no other one.
local function drop(channel, connection)
  local lease, _, user = find(channel, connection)
  if not lease then return end
  unhang(channel, connection, lease)
  redis.call('HDEL', HERE .. 'at:' .. channel, connection)
  local count, data = member_of(channel, user)
  if count > 1 then
    set_member(channel, user, count - 1, data)
  elseif count == 1 then
    redis.call('HDEL', HERE .. 'of:' .. channel, user)
    if redis.call('EXISTS', HERE .. 'of:' .. channel) == 0 then redis.call('ZREM', HERE .. 'channels', channel) end
    append('member_removed', channel, data)
  end
end

-- Whether a stream has taken the place of a polling client, and began after a request of this age (in ms) had begun. The
-- time of the machine passes also while the presence clock stands still, as the age of a request does.
local function is_gone(channel, connection, age)
  local at = redis.call('ZSCORE', REPLACED, channel .. ' ' .. connection)
  return at and tonumber(at) > now_ms() - tonumber(age)
end

-- Ends each script: notes what it has appended.
local function finish()
  if newest then
    set_mark(log, newest, added)
    set_tip(log, added)
  end
end
