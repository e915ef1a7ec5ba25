-- Finds or makes the log's identity, at each new connection, and ends an epoch whose entries may not all be here.
-- ARGV[2…]: the epoch that this node has read, how many entries were ever added up to where it stands, the last entry
-- that it has read; and the last position of that epoch which it has proven to be in the log, or nothing.
--
-- A log whose end was lost (a failover, a crash before the disk was written, a restored copy) gives ids again that
-- readers have seen, and goes on with other entries. So an epoch belongs to one server process in one reign. The
-- first that opens the log at another one ends it: `until:<e>` gets the last position that is proven to be here,
-- which is the mark or what a node has compared beyond it. A new epoch begins. Cursors up to there stay good, those
-- behind it are gaps. Where nothing was lost the proof reaches to the end, and no reader is told of a gap.
--
-- Answers the extent, and in front of it what is wanted first: nothing, or the position from which this node is to
-- compare what it has read with the log; nothing was changed then.
local seen_epoch, seen_added, seen_last, proven = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local log = ensure()
local info = audit(log)

local function answer(wanted) return { wanted, extent(log, info) } end

local function later(a, b) return less(a, b) and b or a end

local ends, survived = log.server ~= SERVER, log.mark
if seen_epoch == log.epoch and seen_last ~= '' then
  -- The same server has another stream than this node has read: a copy was put back.
  local is_there = not less(log.floor, seen_last) or seen_last == info.deleted or #redis.call('XRANGE', LOG, seen_last, seen_last) > 0
  local lost = not ends and ((seen_added and info.added < seen_added) or less(info.last, seen_last) or not is_there)
  if ends or lost then
    if proven == '' and (lost or less(log.mark, seen_last)) then return answer(lost and 'all' or log.mark) end
    -- The mark may have been moved by appends to the copy. What the node has compared is the proof.
    if lost then survived = proven elseif proven ~= '' then survived = later(survived, proven) end
    ends = true
  end
end

local function set_until(epoch, last, cut)
  redis.call('XGROUP', 'SETID', LOG, 'until:' .. epoch, last, 'ENTRIESREAD', cut)
end

if not ends then
  -- Another node has ended the epoch, and knew less of it than this one.
  for _, ancestor in ipairs(log.ancestors) do
    local epoch, last, cut = ancestor[1], ancestor[2], ancestor[3]
    if epoch == seen_epoch and less(last, seen_last) and cut == 0 then
      if proven == '' then return answer(last) end
      if less(last, proven) and not less(info.last, proven) then last = proven end
      ancestor[2], ancestor[3] = last, less(last, seen_last) and 1 or 0
      set_until(epoch, last, ancestor[3])
    end
  end
  return answer('')
end

if less(info.last, survived) then survived = info.last end
if less(survived, log.floor) then survived = log.floor end
-- Redis lists groups by name, and names are random. The newest epoch ends last.
table.sort(log.ancestors, function(a, b) return less(b[2], a[2]) end)
for i, ancestor in ipairs(log.ancestors) do
  -- A cursor before the floor is a gap with or without its epoch. Past sixteen a gap is told where none may be.
  if i > 15 or less(ancestor[2], log.floor) then
    redis.call('XGROUP', 'DESTROY', LOG, 'until:' .. ancestor[1])
  elseif less(survived, ancestor[2]) then
    set_until(ancestor[1], survived, 1)
  end
end
local cut = seen_epoch == log.epoch and less(survived, seen_last) and 1 or 0
redis.call('XGROUP', 'CREATE', LOG, 'until:' .. log.epoch, survived, 'ENTRIESREAD', cut)
redis.call('XGROUP', 'CREATE', LOG, 'epoch:' .. CANDIDATE, log.floor, 'ENTRIESREAD', log.dropped)
redis.call('XGROUP', 'DESTROY', LOG, 'epoch:' .. log.epoch)
redis.call('XGROUP', 'DESTROY', LOG, log.mark_group)
log.epoch = CANDIDATE
begin_mark(log, info.last, info.added)
log = identity()
return answer('')
