-- A range of the log, with the log's extent as of the same moment.
-- ARGV[2…]: the position to read after, how many entries.
local log = ensure()
local info = audit(log)
local entries = {}
if less(ARGV[2], info.last) then
  entries = redis.call('XRANGE', LOG, '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
end
return { extent(log, info), entries }
