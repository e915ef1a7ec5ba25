-- Reports the changes of one node's counts. KEYS[2]: the nodes, with the time until which each counts as alive;
-- KEYS[3]: this node's counts, as members `<channel> <transport>=<n>,…` of score 0: a space sorts
-- before every character of a name, so a channel is found, and listed in order, by its member's beginning.
-- ARGV: the node, its life in ms, the life of a channel's polling clients in ms, 1 if this call begins a full report,
-- how many channels, the names of the transports that poll; then for each its name and its member or nothing; then for each polling client its channel, its
-- transport or nothing, its id and for how many ms it counts. Returns 0 if Redis does not know the node, or if the node
-- had expired.
local now = now_ms()
local known = redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
-- Earlier reports may be lost. Without this, a channel that no longer has readers would stay in the set for as long as
-- the node lives.
if ARGV[4] == '1' then redis.call('DEL', KEYS[3]) end
local at = 7
for _ = 1, tonumber(ARGV[5]) do
  local channel, member = ARGV[at], ARGV[at + 1]
  for _, old in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], '[' .. channel .. ' ', '(' .. channel .. '!')) do
    redis.call('ZREM', KEYS[3], old)
  end
  if member ~= '' then redis.call('ZADD', KEYS[3], 0, member) end
  at = at + 2
end
while at <= #ARGV do
  local channel, transport, client = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  for name in string.gmatch(ARGV[6], '%S+') do
    local key = '{' .. LOG .. '}:pollers:' .. name .. ':' .. channel
    if name == transport then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('(%.0f', now))
      redis.call('ZADD', key, string.format('%.0f', now + tonumber(ARGV[at + 3])), client)
      redis.call('PEXPIRE', key, ARGV[3])
    else
      redis.call('ZREM', key, client)
    end
  end
  at = at + 4
end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
-- A node that was stalled may still be in the set of nodes although its counts have expired.
return known and tonumber(known) > now and 1 or 0
