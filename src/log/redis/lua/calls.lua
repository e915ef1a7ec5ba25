-- Puts calls to the application into a stream for workers (`--hook-stream`). KEYS[2]: the stream. ARGV: the node, how
-- many entries and how many bytes the stream may have, the life of a record in ms; then for each call its attempt, its
-- id, the ms for which the node waits, how many words its entry has, and these words. The entry gets the field `until`:
-- when the time of the call is over, in ms since 1970.
--
-- A call has a record, `{P:log}:call:<id>`: a hash of the attempts that wait for its answer, `<node> <attempt>`, and of
-- the time at which each of them ends; 0 if the attempt has its answer. An answer is for one attempt.
local STREAM, node, most, room, life = KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
-- If the stream was deleted, it lacks calls whose records are there.
local is_gone = redis.call('EXISTS', STREAM) == 0
local now, at = now_ms(), 5
while at <= #ARGV do
  local attempt, id, left, words = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local record, waiting = '{' .. LOG .. '}:call:' .. id, node .. ' ' .. attempt
  local over = string.format('%.0f', now + left)
  -- A node that got no answer to this script runs it again with the same attempts.
  local known = redis.call('HGET', record, waiting)
  if not known or (is_gone and known ~= '0') then
    local entry = { unpack(ARGV, at + 4, at + 3 + words) }
    entry[#entry + 1], entry[#entry + 2] = 'until', over
    redis.call('XADD', STREAM, 'MAXLEN', most, '*', unpack(entry))
    redis.call('HSET', record, waiting, over)
    redis.call('PEXPIRE', record, life)
  end
  at = at + 4 + words
end
local bytes = redis.call('MEMORY', 'USAGE', STREAM) or 0
if bytes > room then
  -- Entries are assumed to have one size. The next calls correct the error.
  redis.call('XTRIM', STREAM, 'MAXLEN', math.floor(redis.call('XLEN', STREAM) * 0.9 * room / bytes))
end
