-- Writes bookmarks and deadlines, and ends sessions whose deadlines have passed. ARGV[3…]: how many sessions are ended
-- at most, then for each session: the id, the bookmark (or nothing), its position, in how many ms the session ends, its
-- channels. Returns 1 if more sessions have missed their time, then the list of unknown sessions, then for each ended
-- session the id, the bookmark and its position.
clock = tick()
local unknown = {}
for at = 4, #ARGV, 5 do
  if redis.call('EXISTS', record(ARGV[at])) == 1 then
    write_session(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  else
    unknown[#unknown + 1] = ARGV[at]
  end
end
local sweep = tonumber(ARGV[3])
if sweep == 0 then return { 0, unknown } end
local due = redis.call('ZRANGEBYSCORE', DUE_SESSIONS, '-inf', score(clock), 'LIMIT', 0, score(sweep + 1))
local answer, channels, at = { 0, unknown }, 0, 1
while at <= math.min(#due, sweep) and channels < MOST_CHANNELS do
  local bookmark, cursor, count = remove_session(due[at])
  if bookmark then
    channels = channels + count
    for _, part in ipairs({ due[at], bookmark, cursor }) do answer[#answer + 1] = part end
  end
  at = at + 1
end
if at <= #due then answer[1] = 1 end
return answer
