-- The retention of a log that nobody appends to through us, and its bytes. Run now and then.
-- ARGV[2…]: entries kept, age kept in ms, bytes kept.
-- Answers how many entries were dropped, whether there is more to do, the bytes that were freed, and the time in ms.
local log = ensure()
audit(log)
local before = redis.call('MEMORY', 'USAGE', LOG) or 0
local dropped = trim(log, tonumber(ARGV[2]), tonumber(ARGV[3]))
local length = redis.call('XLEN', LOG)
local bytes = redis.call('MEMORY', 'USAGE', LOG) or 0
local over = bytes - tonumber(ARGV[4])
if over > 0 and length > 1 then
  -- Entries are taken to be of one size; the next run mends what that got wrong.
  local excess = math.min(math.ceil(over / (bytes / length)), length - 1)
  dropped = dropped + trim(log, length - excess, tonumber(ARGV[3]))
end
local after = dropped > 0 and (redis.call('MEMORY', 'USAGE', LOG) or 0) or before
length = redis.call('XLEN', LOG)
-- One round drops no more than a thousand by bytes: more may come between two looks. Where more than one entry
-- is left to say that there is more, a round has dropped one at least, so rounds come to an end.
local more = length > tonumber(ARGV[2]) or (length > 1 and after > tonumber(ARGV[4]))
return { dropped, more and 1 or 0, before - after, string.format('%.0f', now_ms()) }
