-- The beginning of every script. KEYS[1] is the log, one stream. ARGV[1] is `<epoch>:<server>`: an epoch for a log
-- that has none, and the server that the connection leads to, in one reign as a primary (its process, and
-- where it was promoted last). The server is empty if the caller does not know it.
--
-- The log's identity lives in its stream, as the names of consumer groups without consumers. So it survives trimming,
-- is replicated with the entries, and ends with the stream:
--   epoch:<e>        the present epoch. Its last-delivered-id is the floor (entries up to there may have been
--                    dropped), its entries-read is how many entries were dropped by then.
--   mark:<e>:<server>  the server that the present epoch began on. Its last-delivered-id is the mark: all entries up
--                    to there were written in this epoch on this server. Its entries-read is the ordinal of the
--                    mark: how many entries were ever added up to there. A copy of the stream (a replica, a file)
--                    that has the mark has all of them.
--   until:<e>        an earlier epoch. Its last-delivered-id is the last position of it that is proven to be in the
--                    log. Its entries-read is 1 if a node has read later entries of it, which are lost.
local LOG = KEYS[1]
local CANDIDATE, SERVER = string.match(ARGV[1] or '', '^([0-9a-z]+):([0-9a-z]*)$')

local function fields(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local function split(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- Ids are compared as texts: numbers here are doubles, which do not distinguish neighbours past 2^53.
local function less(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  if ams == bms then ams, bms = aseq, bseq end
  return #ams < #bms or (#ams == #bms and ams < bms)
end

-- An id past 2^53, which only a forger writes, stays the entry's own id. Then an existing entry may count as dropped,
-- but a dropped entry never counts as existing.
local function before(id)
  local exact = 9007199254740992
  local ms, seq = split(id)
  if seq > 0 and seq < exact then return string.format('%s-%.0f', string.match(id, '^%d+'), seq - 1) end
  if seq == 0 and ms > 0 and ms < exact then return string.format('%.0f-18446744073709551615', ms - 1) end
  return id
end

local function identity()
  if redis.call('EXISTS', LOG) == 0 then return nil end
  local found, marks = { ancestors = {} }, {}
  for _, reply in ipairs(redis.call('XINFO', 'GROUPS', LOG)) do
    local group = fields(reply)
    local kind, epoch, server = string.match(group['name'], '^(%a+):([0-9a-z]+):?([0-9a-z]*)$')
    if kind == 'epoch' then
      found.epoch, found.floor = epoch, group['last-delivered-id']
      found.dropped = group['entries-read'] or 0
    elseif kind == 'until' then
      table.insert(found.ancestors, { epoch, group['last-delivered-id'], group['entries-read'] or 0 })
    elseif kind == 'mark' then
      group.server = server
      marks[epoch] = group
    end
  end
  local mark = found.epoch and marks[found.epoch]
  if mark then
    found.server, found.mark_group, found.mark = mark.server, mark['name'], mark['last-delivered-id']
    -- How many entries were ever added. Redis does not know this (nil) if an entry after the mark was deleted.
    found.added = mark['entries-read'] and mark['lag'] and mark['entries-read'] + mark['lag'] or nil
  end
  return found.epoch and found
end

local function stream()
  local info = fields(redis.call('XINFO', 'STREAM', LOG))
  info.added, info.last, info.deleted = info['entries-added'], info['last-generated-id'], info['max-deleted-entry-id']
  info.dropped = info.added - info['length']
  info.floor = info['length'] == 0 and info.last or before(info['first-entry'][1])
  return info
end

local function set_floor(log, floor, dropped)
  redis.call('XGROUP', 'SETID', LOG, 'epoch:' .. log.epoch, floor, 'ENTRIESREAD', dropped)
  log.floor, log.dropped = floor, dropped
end

-- Records that all entries up to here were written in this epoch on this server. A caller on another server, or a
-- caller that does not know its server, cannot prove this and does not move the mark.
local function set_mark(log, id, added)
  if SERVER ~= '' and log.server == SERVER then
    redis.call('XGROUP', 'SETID', LOG, log.mark_group, id, 'ENTRIESREAD', added)
  end
end

local function begin_mark(log, id, added)
  log.server, log.mark_group, log.mark, log.added = SERVER, 'mark:' .. log.epoch .. ':' .. SERVER, id, added
  redis.call('XGROUP', 'CREATE', LOG, log.mark_group, id, 'MKSTREAM', 'ENTRIESREAD', added)
end

-- The key of the tip: the epoch, and how many entries were ever added when one of the scripts last appended. The tip is
-- stored beside the log, so if an older copy of the log is put back (RESTORE), the tip stays the newer one.
local TIP = '{' .. LOG .. '}:tip'

local function set_tip(log, added) redis.call('SET', TIP, log.epoch .. ' ' .. string.format('%.0f', added)) end

-- Whether the log has fewer entries than were appended. Later entries could hide this: they have the same numbers, and
-- also the same ids if the clock stands still.
local function went_back(log)
  local epoch, tip = string.match(redis.call('GET', TIP) or '', '^(%w+) (%d+)$')
  return epoch == log.epoch and (log.added or stream().added) < tonumber(tip)
end

-- Ends the present epoch at its last position that is proven to be here, and begins another one. `cut`: 1 if later
-- entries of the epoch were read, or may have been read, and are lost. Returns the log.
local function begin_epoch(log, info, survived, cut)
  if less(info.last, survived) then survived = info.last end
  if less(survived, log.floor) then survived = log.floor end
  -- The entries of earlier epochs were here when this one began.
  for _, ancestor in ipairs(log.ancestors) do
    if less(survived, ancestor[2]) then survived = ancestor[2] end
  end
  -- Redis lists groups by name, and names are random. The newest epoch ends last.
  table.sort(log.ancestors, function(a, b) return less(b[2], a[2]) end)
  for i, ancestor in ipairs(log.ancestors) do
    -- A cursor before the floor is a gap with or without its epoch. With more than sixteen earlier epochs, a gap may be
    -- reported although no entry is missing.
    if i > 15 or less(ancestor[2], log.floor) then redis.call('XGROUP', 'DESTROY', LOG, 'until:' .. ancestor[1]) end
  end
  redis.call('XGROUP', 'CREATE', LOG, 'until:' .. log.epoch, survived, 'ENTRIESREAD', cut)
  redis.call('XGROUP', 'CREATE', LOG, 'epoch:' .. CANDIDATE, log.floor, 'ENTRIESREAD', log.dropped)
  redis.call('XGROUP', 'DESTROY', LOG, 'epoch:' .. log.epoch)
  redis.call('XGROUP', 'DESTROY', LOG, log.mark_group)
  log.epoch = CANDIDATE
  begin_mark(log, info.last, info.added)
  return identity()
end

-- The log's identity. A stream without an identity (a new stream, or one that another program's XADD has begun) gets
-- one. If a log was replaced by an older copy, its epoch ends at the mark that is in the copy.
local function ensure()
  local log = identity()
  if not log then
    log = { epoch = CANDIDATE, floor = '0-0', dropped = 0, ancestors = {} }
    if redis.call('EXISTS', LOG) == 1 then
      local info = stream()
      if info.dropped > 0 then log.floor, log.dropped = info.floor, info.dropped end
    end
    redis.call('XGROUP', 'CREATE', LOG, 'epoch:' .. CANDIDATE, log.floor, 'MKSTREAM', 'ENTRIESREAD', log.dropped)
  end
  -- The server is not known if a function, or a version without marks, has begun the epoch.
  if not log.server or (log.server == '' and SERVER ~= '') then
    local info = stream()
    if log.mark_group then redis.call('XGROUP', 'DESTROY', LOG, log.mark_group) end
    begin_mark(log, info.last, info.added)
  elseif went_back(log) then
    log = begin_epoch(log, stream(), log.mark, 1)
  end
  return log
end

-- Finds entries that other programs have trimmed: in this case, more entries are missing than nodes have dropped.
local function audit(log)
  local info = stream()
  if info.dropped > log.dropped then
    set_floor(log, less(log.floor, info.floor) and info.floor or log.floor, info.dropped)
  end
  return info
end

-- Returns the cursor of the message that has an idempotency key, or nil if the log does not hold the message. Takes the
-- cursor that the key holds, and the fields of the message that would be appended. A key may outlive its message, which
-- may be lost with the log (DEL), with the log's end (a failover) or alone (XDEL): then the message is appended again.
local function keyed(log, cursor, message)
  local id, epoch = string.match(cursor, '^(%d+%-%d+)%.([0-9a-z]+)$')
  if not id then return nil end
  local last
  for _, ancestor in ipairs(log.ancestors) do
    if ancestor[1] == epoch then last = ancestor[2] end
  end
  if epoch == log.epoch or (last and not less(last, id)) then
    if not less(log.floor, id) then return cursor end
    -- A publisher without permission for XRANGE gets the cursor of the key.
    local found = redis.pcall('XRANGE', LOG, id, id)
    return (found.err or #found > 0) and cursor or nil
  end
  -- The epoch has ended, and nothing proves that the message is here: no node had read it yet. The log may still have
  -- it, or may have another message under its id.
  local found = redis.pcall('XRANGE', LOG, id, id)
  if found.err or #found == 0 then return nil end
  local there, wanted = fields(found[1][2]), fields(message)
  if there.channel ~= wanted.channel or there.channels ~= wanted.channels or there.data ~= wanted.data then return nil end
  return id .. '.' .. log.epoch
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Drops entries that the retention does not keep: by age all of them, by count at most 1,000 in each call. Without an
-- age it drops by count only.
local function trim(log, max_length, max_age_ms)
  local dropped, floor = 0, log.floor
  local oldest = max_age_ms and string.format('%.0f-0', math.max(now_ms() - max_age_ms, 0))
  local first = oldest and redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  -- The first entry is checked first: an XREVRANGE from a position before it would walk the whole stream.
  if first and less(first[1], oldest) then
    floor = redis.call('XREVRANGE', LOG, '(' .. oldest, '-', 'COUNT', 1)[1][1]
    dropped = redis.call('XTRIM', LOG, 'MINID', oldest)
  end
  local length = redis.call('XLEN', LOG)
  local over = math.min(length - max_length, 1000)
  if over > 0 then
    local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', over)
    floor = first[#first][1]
    dropped = dropped + redis.call('XTRIM', LOG, 'MAXLEN', length - over)
  end
  if dropped > 0 then set_floor(log, floor, log.dropped + dropped) end
  return dropped
end

-- The log's extent, and the stream's own counters at the same moment.
local function extent(log, info)
  local ancestors = {}
  for _, ancestor in ipairs(log.ancestors) do
    table.insert(ancestors, ancestor[1])
    table.insert(ancestors, ancestor[2])
    table.insert(ancestors, ancestor[3])
  end
  return { log.epoch, log.floor, info.last, string.format('%.0f', now_ms()), ancestors, info.added, info['length'],
    info.deleted }
end
