-- A range of the log, with the log's extent as of the same moment.
-- ARGV: an epoch for a log that needs one, the position to read after, how many entries.
local log = ensure(ARGV[1])
local info = audit(log)
local entries = {}
if less(ARGV[2], info.last) then
  entries = redis.call('XRANGE', LOG, '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
end
return { extent(log, info.last), entries }
