-- Moves the mark to the position of a node's tail, if there are entries that no node appended.
-- ARGV[2…]: the epoch, the position, how many entries were ever added up to there.
local log = identity()
if log and log.epoch == ARGV[2] and log.mark and not went_back(log) and less(log.mark, ARGV[3]) and (log.added or stream().added) >= tonumber(ARGV[4]) then
  set_mark(log, ARGV[3], ARGV[4])
end
return 1
