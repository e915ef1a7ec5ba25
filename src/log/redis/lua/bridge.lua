-- Takes what was PUBLISHed into the log, once, however many nodes have heard it.
-- KEYS[2]: the lease; KEYS[3]: the bridge's state; KEYS[4]: where this node's marker is noted.
-- ARGV: an epoch for a log that needs one, the node, the lease's life in ms, `take` where a vacant
-- lease may be taken, `release` to give it back, entries kept, age kept in ms, the generation and the number of the first item
-- (0: no items), life of an idempotency key in ms; then for each item how many words follow, and
-- these: none for what takes a place in the order and no entry, one for a node's marker, more for an
-- idempotency key (or nothing) and an entry's fields.
--
-- One Redis delivers all PUBLISHes to all subscribers in one order, so each has a number. The state
-- holds the number of the last one taken; items that do not follow it are not taken. That makes a
-- repeat harmless, and the lease is checked in the same step, which fences a holder that has stalled.
-- Answers: the holder, the generation, the last number taken, the number of this node's marker.
local node = ARGV[2]
local holder = redis.call('GET', KEYS[2])
if not holder and ARGV[4] == 'take' then
  holder = node
elseif holder == node and ARGV[4] == 'release' then
  redis.call('DEL', KEYS[2])
  holder = false
end
local generation, taken = unpack(redis.call('HMGET', KEYS[3], 'generation', 'taken'))
if holder == node then
  redis.call('SET', KEYS[2], node, 'PX', ARGV[3])
  if not generation then
    -- New, or lost with the rest of Redis: numbers begin anew and nobody's old ones count.
    generation, taken = ARGV[1], '0'
    redis.call('HSET', KEYS[3], 'generation', generation, 'taken', taken)
  end
  if ARGV[7] == generation and tonumber(ARGV[8]) == tonumber(taken) + 1 then
    local log = ensure(ARGV[1])
    local at, number = 10, tonumber(taken)
    while at <= #ARGV do
      local count = tonumber(ARGV[at])
      number = number + 1
      if count == 1 then
        redis.call('SET', ARGV[at + 1], string.format('%s %.0f', generation, number), 'PX', 60000)
      elseif count > 1 then
        local key = ARGV[at + 1]
        if key == '' or redis.call('EXISTS', key) == 0 then
          local id = redis.call('XADD', LOG, '*', unpack(ARGV, at + 2, at + count))
          if key ~= '' then redis.call('SET', key, id .. '.' .. log.epoch, 'PX', ARGV[9]) end
        end
      end
      at = at + 1 + count
    end
    taken = string.format('%.0f', number)
    redis.call('HSET', KEYS[3], 'taken', taken)
    trim(log, tonumber(ARGV[5]), tonumber(ARGV[6]))
  end
end
return { holder, generation, taken, redis.call('GET', KEYS[4]) }
