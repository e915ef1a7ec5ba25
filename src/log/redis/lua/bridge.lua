-- Appends PUBLISHes to the log. Each PUBLISH is appended once, however many members have received it.
-- KEYS[2]: the bridge's state, a hash; KEYS[3]: a sorted set, the segments, each with the last number that was taken in
-- it.
-- ARGV[2…]: the member, its request, the holder and the beat that it has seen, the channel of markers, a new segment's
-- random part, the server that the member is subscribed to (its run_id) and the address of that server, `1` in a
-- Cluster, the server that the state is to name for a join there, entries kept, age kept in ms, life of an idempotency
-- key in ms, the bytes that idempotency keys may take, the publisher in whose share the keys count; then for each
-- segment: its id, the first number that follows, `1` if a hole before it is allowed, how many items follow, and the
-- items: 0 and how many numbers hold nothing, or how many words follow, an idempotency key (or nothing) and an entry's
-- fields. If the next entry belongs to the same PUBLISH, the count of words is negative.
-- Returns the holder, the beat, the server, its address, a count of the signs of life from members in a Cluster, how
-- many PUBLISHes this call has appended, how many of these had a key that is not remembered, because there was no room;
-- then for each segment the last number taken, or `-` for a segment that was dropped.
--
-- A join PUBLISHes a marker. The marker says whether it is the first marker of this server process: then the messages
-- that members have received before it are numbered backwards from it. A segment is what one server delivers between
-- two markers. A server delivers to all its subscribers in one order, so the n-th PUBLISH after a marker is the same
-- for all members that received the marker. The script takes only numbers after the last one that was taken in the
-- segment: a repeat is harmless, and so are two members that offer the same PUBLISH. Only the holder offers at once,
-- while the others wait a little.
local STATE, TAKEN = KEYS[2], KEYS[3]
local member, want, is_cluster = ARGV[2], ARGV[3], ARGV[10] == '1'
local state = fields(redis.call('HGETALL', STATE))
local holder, beat, server, address = state.holder or '', state.beat or '0', state.server or '', state.address or ''
local alive, joined, dropped = state.alive or '0', tonumber(state.joined or 0), tonumber(state.dropped or 0)

local function text(number) return string.format('%.0f', number) end

local function place_of(segment) return tonumber(string.match(segment, '^%d+')) end

local function hold(who)
  holder = who
  redis.call('HSET', STATE, 'holder', holder)
end

-- Drops segments that are no longer in use. It keeps the last 256 segments, because a member may come back after a
-- stall.
local function drop_old_segments()
  local count = redis.call('ZCOUNT', TAKEN, '-inf', '+inf')
  if count <= 256 then return end
  for _, segment in ipairs(redis.call('ZRANGEBYSCORE', TAKEN, '-inf', '+inf')) do
    local place = place_of(segment)
    -- If a segment's number is higher than the present number of joins, the segment comes from a state that Redis has
    -- lost.
    if place <= joined - 256 or (place > joined and count > 1024) then redis.call('ZREM', TAKEN, segment) end
  end
  dropped = math.max(joined - 256, 0)
  redis.call('HSET', STATE, 'dropped', text(dropped))
end

-- A replica delivers the PUBLISHes of its primary. A member may listen there and have joined before, at the server
-- that was primary then, so it has already numbered the messages before the marker.
local function has_replicas()
  return not string.find(redis.call('INFO', 'replication'), 'connected_slaves:0', 1, true)
end

-- In a Cluster all servers deliver a PUBLISH, each in an order of its own, so all members listen to one server.
if want == 'join' and (not is_cluster or server == '' or server == ARGV[8] or server == ARGV[11]) then
  -- If Redis has lost the state, the state does not name the members that have joined.
  local is_first = not is_cluster and server ~= '' and server ~= ARGV[8] and not has_replicas()
  joined, server, address = joined + 1, ARGV[8], ARGV[9]
  local segment = text(joined) .. '-' .. ARGV[7]
  redis.call('HSET', STATE, 'joined', text(joined), 'server', server, 'address', address)
  redis.call('ZADD', TAKEN, '0', segment)
  if holder == '' then hold(member) end
  drop_old_segments()
  -- The marker is published in one step with the change of the state.
  redis.call('PUBLISH', ARGV[6], segment .. ' ' .. server .. (is_first and ' first' or ''))
elseif want == 'take' and holder == ARGV[4] and beat == ARGV[5] then
  hold(member)
elseif want == 'release' and holder == member then
  hold('')
end

-- An error is returned and does not end the script: the entries that were appended before it still have to be recorded.
local log, entries, newest, room
local forgotten = 0
local function append(key, first, last)
  if not log then
    log = ensure()
    entries = log.added or stream().added
  end
  local known
  if key ~= '' then
    known = redis.pcall('GET', key)
    if type(known) == 'table' then return known end
    if known and keyed(log, known, { unpack(ARGV, first, last) }) then return end
  end
  local id = redis.pcall('XADD', LOG, '*', unpack(ARGV, first, last))
  if type(id) == 'table' then return id end
  entries, newest = entries + 1, id
  if key ~= '' then
    room = room or key_room(tonumber(ARGV[15]), tonumber(ARGV[14]))
    -- A PUBLISH cannot be refused, because its publisher does not get an answer. So the message is appended without its
    -- key: if the publisher repeats it, the message is doubled, but it is not lost.
    local bytes = room.of(ARGV[16], key)
    if room.take(ARGV[16], bytes, known and { { cursor = known, bytes = bytes } } or {}) then
      forgotten = forgotten + 1
    else
      redis.pcall('SET', key, id .. '.' .. log.epoch, 'PX', ARGV[14])
    end
  end
end

local answer, added, has_taken, obstacle = {}, 0, false, nil
local at = 17
while at <= #ARGV do
  local segment, number, items = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])
  local score = redis.call('ZSCORE', TAKEN, segment)
  local is_dropped = not score and place_of(segment) <= dropped
  local before = tonumber(score or 0)
  local taken = before
  -- A hole means that Redis has lost numbers that it had taken: members offer messages after a hole only in this case.
  local may_offer = items > 0 and not is_dropped and not obstacle
  if ARGV[at + 2] == '1' and may_offer then taken = math.max(taken, number - 1) end
  local is_open = may_offer and number <= taken + 1
  at = at + 4
  for _ = 1, items do
    local words = tonumber(ARGV[at])
    if words == 0 then
      number = number + tonumber(ARGV[at + 1])
      if is_open then taken = math.max(taken, number - 1) end
      at = at + 2
    else
      local is_last = words > 0
      words = math.abs(words)
      if is_open and number > taken then
        -- The usual obstacles (a full memory, a key of another type) stop the first entry of a PUBLISH, so a retry does
        -- not repeat any of its entries.
        obstacle = append(ARGV[at + 1], at + 2, at + words)
        is_open = not obstacle
        if is_open and is_last then taken, added = number, added + 1 end
      end
      if is_last then number = number + 1 end
      at = at + 1 + words
    end
  end
  if taken > before then
    redis.call('ZADD', TAKEN, text(taken), segment)
    has_taken = true
  end
  answer[#answer + 1] = is_dropped and '-' or text(taken)
end
if obstacle and not has_taken then return obstacle end

local is_listening = want == 'look' or want == 'join' or want == 'take'
if has_taken and is_listening and holder ~= member then hold(member) end
if holder == member then beat = text(redis.call('HINCRBY', STATE, 'beat', 1)) end
if is_cluster and is_listening then alive = text(redis.call('HINCRBY', STATE, 'alive', 1)) end
if newest then
  set_mark(log, newest, entries)
  set_tip(log, entries)
end
if log then trim(log, tonumber(ARGV[12]), tonumber(ARGV[13])) end
return { holder, beat, server, address, alive, text(added), text(forgotten), unpack(answer) }
