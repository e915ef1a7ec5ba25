-- The records of connections: see src/log/connections/mod.rs. The clock is that of presence.
--
--   connections       the connections, by their deadlines
--   connection:<id>   a hash: info, and for each part its text and its version (reader, reader:v, and so on)
--
-- ARGV[3…] is one of
--   create <id> <how many there may be> <ends in ms> <info> <reader> <writer> <mode>   returns 1, or 0: too many, or there is one
--   load <id>                                                                     returns the record, or nothing
--   swap <id> <part> <version> <text> <ends in ms>                    returns 1, 0 (another version), or nothing
--   end <id>                                                                      returns the record, or nothing
local CONNECTIONS = '{' .. LOG .. '}:connections'
local LONGEST = 86400000
local op, id = ARGV[3], ARGV[4]
local key = '{' .. LOG .. '}:connection:' .. id
clock = tick()

local function hold(ends_in)
  local due = math.max(tonumber(redis.call('ZSCORE', CONNECTIONS, id) or '0'), clock + tonumber(ends_in))
  redis.call('ZADD', CONNECTIONS, score(due), id)
  redis.call('PEXPIRE', CONNECTIONS, score(LONGEST))
  redis.call('PEXPIRE', key, score(LONGEST))
end

if op == 'create' then
  local late = redis.call('ZRANGEBYSCORE', CONNECTIONS, '-inf', score(clock), 'LIMIT', 0, 100)
  for _, other in ipairs(late) do
    redis.call('ZREM', CONNECTIONS, other)
    redis.call('DEL', '{' .. LOG .. '}:connection:' .. other)
  end
  if redis.call('ZCARD', CONNECTIONS) >= tonumber(ARGV[5]) then return { 0 } end
  local known = redis.call('ZSCORE', CONNECTIONS, id)
  if known and tonumber(known) > clock then return { 0 } end
  redis.call('HSET', key, 'info', ARGV[7], 'reader', ARGV[8], 'reader:v', 0, 'writer', ARGV[9], 'writer:v', 0,
    'mode', ARGV[10], 'mode:v', 0)
  hold(ARGV[6])
  return { 1 }
end

local due = redis.call('ZSCORE', CONNECTIONS, id)
if not due or tonumber(due) <= clock or redis.call('EXISTS', key) == 0 then return {} end

if op == 'swap' then
  local part = ARGV[5]
  if redis.call('HGET', key, part .. ':v') ~= ARGV[6] then return { 0 } end
  redis.call('HSET', key, part, ARGV[7])
  redis.call('HINCRBY', key, part .. ':v', 1)
  hold(ARGV[8])
  return { 1 }
end

local record = redis.call('HMGET', key, 'info', 'reader', 'reader:v', 'writer', 'writer:v', 'mode', 'mode:v')
if op == 'end' then
  redis.call('DEL', key)
  redis.call('ZREM', CONNECTIONS, id)
end
return record
