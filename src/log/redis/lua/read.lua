-- A range of the log, with the log's extent at the same moment.
-- ARGV[2…]: the position to read after, how many entries; the limits of `bounded`.
local log = ensure()
-- Entries after the mark may belong to another reign. Their cursors must not name this epoch, so the log has to be
-- opened first.
if log.server ~= SERVER then return redis.error_reply('FORK the log was opened at another server') end
local info = audit(log)
local entries, is_cut = {}, 0
if less(ARGV[2], info.last) then
  entries = redis.call('XRANGE', LOG, '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
  entries, is_cut = bounded(entries, tonumber(ARGV[4]), tonumber(ARGV[5]))
end
return { extent(log, info), entries, is_cut }
