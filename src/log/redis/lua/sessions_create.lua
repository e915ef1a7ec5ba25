-- Adds a session. ARGV[3…]: how many sessions there may be, then the id, the bookmark, its position, in how many ms the
-- session ends, its channels, nothing. Returns 1, or 0 if there are too many.
clock = tick()
if redis.call('ZCOUNT', DUE_SESSIONS, '-inf', '+inf') >= tonumber(ARGV[3]) then return { 0 } end
write_session(ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9])
return { 1 }
