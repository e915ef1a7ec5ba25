-- Lists sessions. ARGV[3…]: the channel, the place after which the list begins (or nothing), how many. Returns the count
-- of all sessions, then for each session the place, the bookmark and its position.
local answer = { redis.call('ZCOUNT', DUE_SESSIONS, '-inf', '+inf') }
local from = ARGV[4] == '' and '-' or '(' .. ARGV[4] .. '!'
local found = redis.call('ZRANGEBYLEX', SESSIONS .. 'in:' .. ARGV[3], from, '+', 'LIMIT', 0, ARGV[5])
for _, member in ipairs(found) do
  local place, id = string.match(member, '^(%x+) (.*)$')
  local session = redis.call('HMGET', record(id), 'bookmark', 'cursor')
  if session[1] then
    for _, part in ipairs({ place, session[1], session[2] }) do answer[#answer + 1] = part end
  end
end
return answer
