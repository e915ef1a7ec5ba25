-- Finds or makes the log's identity, at each new connection, and ends an epoch whose entries may not all be here.
-- ARGV[2…]: the epoch that this node has read, how many entries were ever added up to its position (or `refuted`: the
-- counts prove that the log is not the one that it has read), the last entry that it has read; and the last position of
-- that epoch that it has proven to be in the log, or nothing.
--
-- A log whose end was lost (a failover, a crash before the disk was written, a restored copy) gives out ids that
-- readers have already seen, and goes on with other entries. So an epoch belongs to one server process in one reign.
-- The first node that opens the log at another server ends the epoch: `until:<e>` gets the last position that is proven
-- to be here. That is the mark, or the position beyond it up to which a node has compared its entries. A new epoch
-- begins. Cursors up to there stay valid, and those after it are gaps. If nothing was lost, the proof reaches the end,
-- and no reader is told of a gap.
--
-- Returns two things. The first is empty, or the position from which this node has to compare its entries with the log
-- before the log can be opened; nothing was changed then. The second is the extent.
local seen_epoch, seen_added, seen_last, proven = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local refuted = ARGV[3] == 'refuted'
local log = ensure()
local info = audit(log)
local ends, survived, cut = log.server ~= SERVER, log.mark, 0

local function answer(wanted) return { wanted, extent(log, info) } end

local function later(a, b) return less(a, b) and b or a end

-- Whether the last entry that this node has read is here, or has been dropped since then.
local function is_there()
  return not less(log.floor, seen_last) or seen_last == info.deleted or #redis.call('XRANGE', LOG, seen_last, seen_last) > 0
end

-- Compares the node's entries of an epoch that is assumed to be here up to `last`. Returns the position from which the
-- node has to compare first, or the position up to which the epoch is here and whether it was cut there. `torn`: a copy
-- was put back, and later appends may have moved the mark. Then the node's comparison is the only proof.
local function compare(last, torn)
  if not torn and not less(last, seen_last) then return nil, last, 0 end
  if proven == '' then return torn and 'all' or last end
  local upto = torn and proven or later(last, proven)
  if less(info.last, upto) then upto = info.last end
  return nil, upto, (torn or less(upto, seen_last)) and 1 or 0
end

local function set_until(epoch, last, cut)
  redis.call('XGROUP', 'SETID', LOG, 'until:' .. epoch, last, 'ENTRIESREAD', cut)
end

local wanted
if seen_epoch == log.epoch and seen_last ~= '' then
  -- Another server may have lost the end of the log. The same server has lost it if a copy was put back.
  local torn = refuted or (not is_there() and (not ends or not less(log.mark, seen_last)))
  torn = torn or (not ends and ((seen_added and info.added < seen_added) or less(info.last, seen_last)))
  if ends or torn then
    wanted, survived, cut = compare(log.mark, torn)
    if wanted then return answer(wanted) end
    ends = true
  end
end
for _, ancestor in ipairs(log.ancestors) do
  local epoch, last = ancestor[1], ancestor[2]
  -- Another node has ended the epoch, although it knew fewer entries of the epoch than this node.
  if epoch == seen_epoch and seen_last ~= '' and ancestor[3] == 0 then
    local upto, is_cut
    wanted, upto, is_cut = compare(last, refuted or (not is_there() and not less(last, seen_last)))
    if wanted then return answer(wanted) end
    if upto ~= last or is_cut == 1 then
      ancestor[2], ancestor[3] = upto, is_cut
      set_until(epoch, upto, is_cut)
    end
  end
end
if not ends then return answer('') end

log = begin_epoch(log, info, survived, cut)
return answer('')
