-- Renews this node's record, and returns the records of the other nodes of the log.
-- KEYS[2]: the records, by node. In front of each are the time of its last renewal and the longest payload that the
-- node accepts. A record expires after its node ends. KEYS[3]: the settings that longtail_publish needs.
-- ARGV: the node, its record, the life of a record in ms, the longest payload that the node accepts, the bytes that
-- idempotency keys may take.
-- Returns whether this node's record still existed and was not too old, then for each other live node its name, the
-- time of its last renewal and its record.
local RECORDS, SETTINGS, node, life = KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[3])
-- Any client of Redis may write to this key, so a record beyond these bounds does not come from a node.
local most, longest = 1000, 4096
local now = now_ms()
local list = redis.call('HGETALL', RECORDS)
if #list > 4 * most then
  redis.call('DEL', RECORDS)
  list = {}
end
local known, others, shortest = 0, {}, tonumber(ARGV[4])
for i = 1, #list, 2 do
  local seen, payload, record = string.match(list[i + 1], '^(%d+) (%d+) (.*)$')
  -- The time is checked in both directions, since Redis's clock may step.
  local lives = seen and #list[i] <= 100 and #record <= longest and math.abs(now - tonumber(seen)) <= life
  if list[i] == node then
    known = lives and 1 or 0
  elseif not lives then
    -- If the user may not delete records, the bound above limits them.
    redis.pcall('HDEL', RECORDS, list[i])
  elseif #others < 3 * most then
    others[#others + 1] = list[i]
    others[#others + 1] = seen
    others[#others + 1] = record
    shortest = math.min(shortest, tonumber(payload))
  end
end
redis.call('HSET', RECORDS, node, string.format('%.0f %s ', now, ARGV[4]) .. ARGV[2])
redis.call('PEXPIRE', RECORDS, ARGV[3])
-- The longest payload that every node accepts: longtail_publish refuses a payload that some nodes would skip. This is
-- checked each time, since FLUSHALL also removes the settings.
local limit = string.format('%.0f', shortest)
if redis.call('HGET', SETTINGS, 'max-message-bytes') ~= limit then
  redis.call('HSET', SETTINGS, 'max-message-bytes', limit)
end
if redis.call('HGET', SETTINGS, 'key-bytes') ~= ARGV[5] then redis.call('HSET', SETTINGS, 'key-bytes', ARGV[5]) end
return { known, others }
