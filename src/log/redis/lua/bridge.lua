-- Takes what was PUBLISHed into the log, once, however many members have heard it.
-- KEYS[2]: the bridge's state; KEYS[3]: where the number of this member's first marker is noted.
-- ARGV: an epoch for a log that needs one (a generation that needs one takes it, too) and the server, the member, what it wants, the holder and
-- the beat that it has seen, the channel of markers, a marker to publish there, entries kept, age kept
-- in ms, life of an idempotency key in ms, a generation that was lost and the last number that was known to
-- be taken in it; then the generation, the first and the last number of what
-- follows, and for each place how many words follow, and these: 0 and how many places are empty, 1 for a
-- marker, more for an idempotency key (or nothing) and an entry's fields.
--
-- One Redis delivers all PUBLISHes to all subscribers in one order, so each has a number, counted from
-- the marker that its generation began with. `taken` is the last number taken, and only what follows it is
-- taken; what was heard before the generation began has numbers below 0 and is taken downwards from
-- `low`. That makes a repeat harmless. Whether the member still holds the lease is checked in the
-- same step, which fences a holder that has stalled.
--
-- The lease has no life of its own: its holder beats, and who sees no beat for a while (by his own
-- clock, since Redis's may step) takes the lease from the very beat that he has seen.
local STATE, NOTE = KEYS[2], KEYS[3]
local member, want, marker = ARGV[2], ARGV[3], ARGV[7]
local state = fields(redis.call('HGETALL', STATE))
local holder, beat = state.holder or '', state.beat or '0'
local generation, taken, low = state.generation or '', tonumber(state.taken or 0), tonumber(state.low or 0)
local is_as_seen = holder == ARGV[4] and beat == ARGV[5]

-- In one step with the marker, or two who begin could each miss what the other heard. What was heard
-- before it and not taken is then given by whoever heard it, downwards from the marker.
local function begin()
  if generation == '' then generation, taken = ARGV[11], tonumber(ARGV[12]) end
  state.previous, state.previous_taken, state.previous_origin = generation, taken, state.origin or ''
  generation, holder, taken, low, state.origin = CANDIDATE, member, 0, 0, marker
  redis.call('HSET', STATE, 'generation', generation, 'holder', holder, 'taken', 0, 'low', 0, 'origin', marker,
    'previous', state.previous, 'previous_taken', state.previous_taken, 'previous_origin', state.previous_origin)
end

if want == 'join' or (want == 'begin' and is_as_seen) then
  redis.call('PUBLISH', ARGV[6], marker)
  if generation == '' or want == 'begin' then begin() end
elseif want == 'take' and is_as_seen and generation == ARGV[13] then
  holder = member
  redis.call('HSET', STATE, 'holder', holder)
elseif want == 'release' and holder == member then
  holder = ''
  redis.call('HSET', STATE, 'holder', holder)
end
if holder == member then beat = string.format('%.0f', redis.call('HINCRBY', STATE, 'beat', 1)) end

local first, last = tonumber(ARGV[14]), tonumber(ARGV[15])
local is_next = holder == member and first == taken + 1
local is_before = last == low - 1
if ARGV[16] and generation ~= '' and generation == ARGV[13] and (is_next or is_before) then
  local log = ensure()
  local added, newest = log.added or stream().added, nil
  local at, number = 16, first
  while at <= #ARGV do
    local count = tonumber(ARGV[at])
    if count == 0 then
      number = number + tonumber(ARGV[at + 1])
      at = at + 2
    else
      if count == 1 then
        redis.call('SET', ARGV[at + 1], string.format('%s %.0f', generation, number), 'PX', 600000)
      else
        local key = ARGV[at + 1]
        local known = key ~= '' and redis.call('GET', key)
        if not known or not holds(log, known) then
          local id = redis.call('XADD', LOG, '*', unpack(ARGV, at + 2, at + count))
          newest, added = id, added + 1
          if key ~= '' then redis.call('SET', key, id .. '.' .. log.epoch, 'PX', ARGV[10]) end
        end
      end
      number = number + 1
      at = at + 1 + count
    end
  end
  if is_next then
    taken = last
    redis.call('HSET', STATE, 'taken', string.format('%.0f', taken))
  else
    low = first
    redis.call('HSET', STATE, 'low', string.format('%.0f', low))
  end
  if newest then set_mark(log, newest, added) end
  trim(log, tonumber(ARGV[8]), tonumber(ARGV[9]))
end
return { holder, beat, generation, string.format('%.0f', taken), string.format('%.0f', low), state.origin or '',
  state.previous or '', string.format('%.0f', tonumber(state.previous_taken or 0)), state.previous_origin or '', redis.call('GET', NOTE) or '' }
