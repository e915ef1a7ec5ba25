-- The record of what consumers of transitions were told, and the lease of the sender: see src/log/told.rs.
-- KEYS[2]: a hash with the lease (number, node, until) and with the position and the version of the record; KEYS[3]: the
-- texts, as members of score 0. ARGV[2…]: what to do, the node, the number of its lease (0 if it has none), the life of a
-- lease in ms, and
--   lease: 1 if the node may begin if there is no record. Returns 0 (another node has the lease), -1 (no record), or the
--          number, the position, the version and the number of texts.
--   read:  a text, how many. Returns the texts after it.
--   write: the position, the version, 1 if the earlier texts are removed, how many texts are added, these texts, and
--          then those that are removed.
-- read and write return -1 if there is no record, 0 if this is not the lease any more, otherwise 1 first.
local RECORD, TOLD = KEYS[2], KEYS[3]
local what, node, number, life = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
-- How long the record is kept without a sender.
local KEPT = 604800000
local now = now_ms()
local known = redis.call('HMGET', RECORD, 'number', 'node', 'until', 'position', 'version')
local held, expires = tonumber(known[1] or '0'), tonumber(known[3] or '0')

if what == 'lease' then
  if known[2] == node then
    number = held
  else
    if not known[1] and ARGV[6] ~= '1' then return { -1 } end
    -- A lease that seems to last longer than any lease is one from before Redis's clock was set back.
    if expires > now and expires <= now + life then return { 0 } end
    number = math.max(held, number) + 1
  end
  redis.call('HSET', RECORD, 'number', string.format('%.0f', number), 'node', node, 'until', string.format('%.0f', now + life))
  redis.call('PEXPIRE', RECORD, KEPT)
  redis.call('PEXPIRE', TOLD, KEPT)
  return { number, known[4] or '', tonumber(known[5] or '0'), redis.call('ZCOUNT', TOLD, '-inf', '+inf') }
end

if not known[1] then return { -1 } end
if known[2] ~= node or held ~= number then return { 0 } end
if what == 'read' then
  local after = ARGV[6] == '' and '-' or '(' .. ARGV[6]
  return { 1, unpack(redis.call('ZRANGEBYLEX', TOLD, after, '+', 'LIMIT', 0, ARGV[7])) }
end
redis.call('HSET', RECORD, 'position', ARGV[6], 'version', ARGV[7])
if ARGV[8] == '1' then redis.call('DEL', TOLD) end
local added = tonumber(ARGV[9])
for at = 10, 9 + added do redis.call('ZADD', TOLD, 0, ARGV[at]) end
for at = 10 + added, #ARGV do redis.call('ZREM', TOLD, ARGV[at]) end
return { 1 }
