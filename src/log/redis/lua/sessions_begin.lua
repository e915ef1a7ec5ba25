-- Finds a session and gives it a new deadline, unless the known one is later. ARGV[2…]: the id, in how many ms it ends.
-- Returns the bookmark and its position, or nothing.
clock = tick()
local due = redis.call('ZSCORE', DUE_SESSIONS, ARGV[2])
local found = redis.call('HMGET', record(ARGV[2]), 'bookmark', 'cursor')
if not due or tonumber(due) <= clock or not found[1] then return {} end
redis.call('ZADD', DUE_SESSIONS, score(math.max(tonumber(due), clock + tonumber(ARGV[3]))), ARGV[2])
return found
