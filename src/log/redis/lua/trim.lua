-- Trims a log to which no node appends, and a log that is over its limit of bytes. The appender runs this regularly.
-- ARGV[2…]: entries kept, age kept in ms, bytes kept.
-- Returns how many entries were dropped, whether more have to be dropped, the bytes that were freed, and the time in
-- ms.
local log = ensure()
audit(log)
local before = redis.call('MEMORY', 'USAGE', LOG) or 0
local dropped = trim(log, tonumber(ARGV[2]), tonumber(ARGV[3]))
local length = redis.call('XLEN', LOG)
local bytes = redis.call('MEMORY', 'USAGE', LOG) or 0
local over = bytes - tonumber(ARGV[4])
if over > 0 and length > 1 then
  -- Entries are assumed to have one size; the next run corrects the error.
  local excess = math.min(math.ceil(over / (bytes / length)), length - 1)
  dropped = dropped + trim(log, length - excess, tonumber(ARGV[3]))
end
local after = dropped > 0 and (redis.call('MEMORY', 'USAGE', LOG) or 0) or before
length = redis.call('XLEN', LOG)
-- One round drops at most a thousand entries by bytes, and more may be added between two rounds. A round that reports
-- more has dropped at least one entry, so the rounds come to an end.
local more = length > tonumber(ARGV[2]) or (length > 1 and after > tonumber(ARGV[4]))
return { dropped, more and 1 or 0, before - after, string.format('%.0f', now_ms()) }
