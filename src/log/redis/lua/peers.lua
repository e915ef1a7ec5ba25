-- Renews this node's record, and returns the records of the other nodes of the log.
-- KEYS[2]: the records, by node. In front of each are the time of its last renewal and the longest payload that the
-- node accepts. A record expires after its node ends. KEYS[3]: the settings that longtail_publish needs.
-- The settings also have the highest format of entries that all nodes read, and the time at which a node noted it.
-- ARGV: the node, its record, the life of a record in ms, the longest payload that the node accepts, the bytes that
-- idempotency keys may take.
-- Returns whether this node's record still existed and was not too old; the highest format that all nodes read; then for
-- each other live node its name, the time of its last renewal, its record, and the formats that it reads.
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

-- The formats of entries that the node of a record reads. A record without a format counts as that of a node which reads
-- only format 1. cjson.decode accepts NaN, which cannot be a key of a table, and inf.
local function formats(record)
  local sound, parsed = pcall(cjson.decode, record)
  local reads = sound and type(parsed) == 'table' and parsed.reads
  local set, list = {}, {}
  for _, format in ipairs(type(reads) == 'table' and reads or {}) do
    if type(format) == 'number' and format >= 1 and format < 1e9 and format % 1 == 0 and not set[format] then
      set[format] = true
      list[#list + 1] = format
    end
  end
  if #list == 0 then return { true }, { 1 } end
  return set, list
end

local common = formats(ARGV[2])
for i = 1, #list, 2 do
  local is_short = #list[i] <= 100 and #list[i + 1] <= longest + 64
  local seen, payload, record = string.match(is_short and list[i + 1] or '', '^(%d+) (%d+) (.*)$')
  -- The time is checked in both directions, since Redis's clock may step.
  local lives = seen and math.abs(now - tonumber(seen)) <= life
  if list[i] == node then
    known = lives and 1 or 0
  elseif not lives then
    -- If the user may not delete records, the bound above limits them.
    redis.pcall('HDEL', RECORDS, list[i])
  elseif #others < 4 * most then
    others[#others + 1] = list[i]
    others[#others + 1] = seen
    others[#others + 1] = record
    shortest = math.min(shortest, tonumber(payload))
    local theirs, formats_read = formats(record)
    others[#others + 1] = formats_read
    for format in pairs(common) do
      if not theirs[format] then common[format] = nil end
    end
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
local format = 1
for number in pairs(common) do format = math.max(format, number) end
redis.call('HSET', SETTINGS, 'format', string.format('%.0f %.0f', format, now))
if redis.call('HGET', SETTINGS, 'key-bytes') ~= ARGV[5] then redis.call('HSET', SETTINGS, 'key-bytes', ARGV[5]) end
return { known, format, others }
