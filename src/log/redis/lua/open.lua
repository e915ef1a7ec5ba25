-- Finds or makes the log's identity, at each new connection.
-- ARGV: an epoch for a log that needs one, the last position this node has seen, that one's epoch.
--
-- A log whose end was lost (a failover, a crash before the disk was written) gives ids again that
-- readers have seen before. So its epoch ends: the present one becomes `until:<e>` with the last
-- position that survived, and a new one begins. Cursors up to there stay good, those behind it are gaps.
local log = ensure(ARGV[1])
local info = audit(log)
local seen = ARGV[2]
local survived
if ARGV[3] == log.epoch then
  if less(info.last, seen) then
    survived = info.last
  elseif less(log.floor, seen) and #redis.call('XRANGE', LOG, seen, seen) == 0 then
    -- The log has gone on behind the loss.
    local previous = redis.call('XREVRANGE', LOG, '(' .. seen, '-', 'COUNT', 1)[1]
    survived = previous and previous[1] or log.floor
  end
end
if survived then
  if less(survived, log.floor) then survived = log.floor end
  -- Redis lists groups by name, and names are random. An epoch's last position is never behind a later one's.
  table.sort(log.ancestors, function(a, b) return less(b[2], a[2]) end)
  for i, ancestor in ipairs(log.ancestors) do
    -- A few are enough: who is older than sixteen losses is told of a gap.
    if i > 15 then
      redis.call('XGROUP', 'DESTROY', LOG, 'until:' .. ancestor[1])
    elseif less(survived, ancestor[2]) then
      redis.call('XGROUP', 'SETID', LOG, 'until:' .. ancestor[1], survived)
    end
  end
  redis.call('XGROUP', 'CREATE', LOG, 'until:' .. log.epoch, survived)
  redis.call('XGROUP', 'CREATE', LOG, 'epoch:' .. ARGV[1], log.floor, 'ENTRIESREAD', log.dropped)
  redis.call('XGROUP', 'DESTROY', LOG, 'epoch:' .. log.epoch)
  log = identity()
end
return extent(log, info.last)
