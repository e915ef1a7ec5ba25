-- Writes bookmarks and deadlines, and ends sessions whose deadlines have passed. ARGV[3…]: how many sessions are ended
-- at most, then for each session: the id, the bookmark (or nothing), its position, in how many ms the session ends, its
-- channels, the digest of the bookmark that the node knows (or nothing). Returns 1 if more sessions have missed their
-- time, then the list of unknown sessions, then a list with the id, the bookmark and its position of each session whose
-- bookmark or position was not taken, and then the same for each ended session.
clock = tick()
local unknown, differing = {}, {}
for at = 4, #ARGV, 6 do
  if redis.call('EXISTS', record(ARGV[at])) == 1 then
    local bookmark, cursor =
      write_session(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    if bookmark then
      for _, part in ipairs({ ARGV[at], bookmark, cursor }) do differing[#differing + 1] = part end
    end
  else
    unknown[#unknown + 1] = ARGV[at]
  end
end
local sweep = tonumber(ARGV[3])
if sweep == 0 then return { 0, unknown, differing } end
local due = redis.call('ZRANGEBYSCORE', DUE_SESSIONS, '-inf', score(clock), 'LIMIT', 0, score(sweep + 1))
local answer, channels, at = { 0, unknown, differing }, 0, 1
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
