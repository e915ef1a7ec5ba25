-- Writes bookmarks and deadlines, and ends sessions whose deadlines have passed. ARGV[2…]: how many sessions are ended
-- at most, then for each session: the id, the bookmark (or nothing), its position, in how many ms the session ends, its
-- channels. Returns 1 if more sessions have missed their time, then the list of unknown sessions, then for each ended
-- session the id, the bookmark and its position.
clock = tick()
local unknown = {}
for at = 3, #ARGV, 5 do
  if redis.call('EXISTS', record(ARGV[at])) == 1 then
    write_session(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  else
    unknown[#unknown + 1] = ARGV[at]
  end
end
local sweep = tonumber(ARGV[2])
if sweep == 0 then return { 0, unknown } end
local due = redis.call('ZRANGEBYSCORE', DUE_SESSIONS, '-inf', score(clock), 'LIMIT', 0, score(sweep + 1))
local answer = { #due > sweep and 1 or 0, unknown }
for at = 1, math.min(#due, sweep) do
  local bookmark, cursor = remove_session(due[at])
  if bookmark then
    for _, part in ipairs({ due[at], bookmark, cursor }) do answer[#answer + 1] = part end
  end
end
return answer
