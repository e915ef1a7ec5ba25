-- Renews a node's lease, sets deadlines, and removes the connections of all nodes that have missed their time.
-- ARGV[2…]: the lease, the numbers of this call on it and of the last answered one, 1 if the node may write entries of
-- presence, how many connections are removed at most; then for each deadline: the channel, the connection, in how many
-- ms it ends, the age in ms of the stream or of the polling client's newest request.
-- Returns 1 if all answered calls on the lease are known, 1 if more connections have missed their time, and then the
-- indexes of the deadlines that name connections that are unknown, or whose place a stream has taken.
clock = tick()
local lease, room = ARGV[2], tonumber(ARGV[6])
local unknown = {}
for at = 7, #ARGV, 4 do
  local channel, connection = ARGV[at], ARGV[at + 1]
  local hangs_on, digest, user = find(channel, connection)
  if not hangs_on or is_gone(channel, connection, ARGV[at + 3]) then
    unknown[#unknown + 1] = (at - 7) / 4
  else
    if hangs_on ~= '-' then
      unhang(channel, connection, hangs_on)
      redis.call('HSET', HERE .. 'at:' .. channel, connection, '- ' .. digest .. ' ' .. user)
    end
    set_deadline(channel, connection, ARGV[at + 2])
  end
end
redis.call('ZREMRANGEBYSCORE', REPLACED, '-inf', score(now_ms() - KEPT_REPLACED))
local is_complete = follow(lease, tonumber(ARGV[3]), tonumber(ARGV[4]))
redis.call('ZADD', LEASES, score(clock + GRACE), lease)

local function sweep()
  for _, lapsed in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', score(clock))) do
    -- From here on the lease is not complete, also if its other connections are left to later sweeps: its node may come
    -- back in between.
    redis.call('HDEL', HERE .. 'calls', lapsed)
    local connections = redis.call('SRANDMEMBER', HERE .. 'lease:' .. lapsed, score(room))
    for _, place in ipairs(connections) do drop(string.match(place, '^(%S+) (.*)$')) end
    room = room - #connections
    if redis.call('SCARD', HERE .. 'lease:' .. lapsed) > 0 then return 1 end
    redis.call('ZREM', LEASES, lapsed)
  end
  local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', score(clock), 'LIMIT', 0, score(room + 1))
  for at = 1, math.min(#due, room) do
    drop(string.match(due[at], '^(%S+) (.*)$'))
    -- It is removed here, too, so that an entry without a connection does not stay.
    redis.call('ZREM', DUE, due[at])
  end
  return #due > room and 1 or 0
end

-- A node that may not write entries leaves the sweep to the others.
local has_more = ARGV[5] == '1' and sweep() or 0
finish()
return { is_complete and 1 or 0, has_more, unpack(unknown) }
