-- Finds a session and gives it a new deadline, unless the known one is later. ARGV[3…]: the id, in how many ms it ends.
-- Returns the bookmark and its position, or nothing.
clock = tick()
local due = redis.call('ZSCORE', DUE_SESSIONS, ARGV[3])
local found = redis.call('HMGET', record(ARGV[3]), 'bookmark', 'cursor', 'held')
if not due or tonumber(due) <= clock or not found[1] then return {} end
hold(ARGV[3], found[3], clock + tonumber(ARGV[4]), true)
return { found[1], found[2] }
