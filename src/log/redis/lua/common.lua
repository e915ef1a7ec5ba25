-- What every script begins with. KEYS[1] is the log, one stream.
--
-- The log's identity lives in its stream, as the names of two kinds of consumer groups that nobody
-- consumes from, so that it survives trimming and dies with the stream:
--   epoch:<e>  the present epoch; its last-delivered-id is the floor (entries up to there may have
--              been dropped), its entries-read is how many entries were dropped by then
--   until:<e>  an earlier epoch; its last-delivered-id is the last position that is still in the log
local LOG = KEYS[1]

local function fields(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local function split(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- As texts: numbers here are doubles, and past 2^53 they do not tell neighbours apart.
local function less(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  if ams == bms then ams, bms = aseq, bseq end
  return #ams < #bms or (#ams == #bms and ams < bms)
end

-- What is past 2^53 (nobody's but a forger's) keeps its entry's own id, which calls one entry dropped
-- that is there and never one there that was dropped.
local function before(id)
  local exact = 9007199254740992
  local ms, seq = split(id)
  if seq > 0 and seq < exact then return string.format('%s-%.0f', string.match(id, '^%d+'), seq - 1) end
  if seq == 0 and ms > 0 and ms < exact then return string.format('%.0f-18446744073709551615', ms - 1) end
  return id
end

local function identity()
  if redis.call('EXISTS', LOG) == 0 then return nil end
  local found = { ancestors = {} }
  for _, reply in ipairs(redis.call('XINFO', 'GROUPS', LOG)) do
    local group = fields(reply)
    local kind, epoch = string.match(group['name'], '^(%a+):([0-9a-z]+)$')
    if kind == 'epoch' then
      found.epoch, found.floor = epoch, group['last-delivered-id']
      found.dropped = group['entries-read'] or 0
    elseif kind == 'until' then
      table.insert(found.ancestors, { epoch, group['last-delivered-id'] })
    end
  end
  return found.epoch and found
end

local function stream()
  local info = fields(redis.call('XINFO', 'STREAM', LOG))
  info.dropped = info['entries-added'] - info['length']
  info.last = info['last-generated-id']
  info.floor = info['length'] == 0 and info.last or before(info['first-entry'][1])
  return info
end

local function set_floor(log, floor, dropped)
  redis.call('XGROUP', 'SETID', LOG, 'epoch:' .. log.epoch, floor, 'ENTRIESREAD', dropped)
  log.floor, log.dropped = floor, dropped
end

-- The log's identity; a stream that has none (new, or begun by somebody's XADD) is given one.
local function ensure(candidate)
  local log = identity()
  if log then return log end
  local floor, dropped = '0-0', 0
  if redis.call('EXISTS', LOG) == 1 then
    local info = stream()
    if info.dropped > 0 then floor, dropped = info.floor, info.dropped end
  end
  redis.call('XGROUP', 'CREATE', LOG, 'epoch:' .. candidate, floor, 'MKSTREAM', 'ENTRIESREAD', dropped)
  return { epoch = candidate, floor = floor, dropped = dropped, ancestors = {} }
end

-- Finds entries that somebody else trimmed: more are gone than we dropped.
local function audit(log)
  local info = stream()
  if info.dropped > log.dropped then
    set_floor(log, less(log.floor, info.floor) and info.floor or log.floor, info.dropped)
  end
  return info
end

-- Whether the log still answers for what an idempotency key stands for, a cursor: its message is in the log, or
-- was there and is too old by now. A key may outlive its message, which goes with the log (DEL), with the log's
-- end (a failover) or alone (XDEL): the message is appended again then.
local function holds(log, cursor)
  local id, epoch = string.match(cursor, '^(%d+%-%d+)%.([0-9a-z]+)$')
  if not id then return false end
  if epoch ~= log.epoch then
    local last
    for _, ancestor in ipairs(log.ancestors) do
      if ancestor[1] == epoch then last = ancestor[2] end
    end
    if not last or less(last, id) then return false end
  end
  if not less(log.floor, id) then return true end
  -- A publisher that may not look is told what the key says.
  local found = redis.pcall('XRANGE', LOG, id, id)
  return found.err ~= nil or #found > 0
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Drops what the retention does not keep, at most 1,000 entries by count a call; without an age by count only.
local function trim(log, max_length, max_age_ms)
  local dropped, floor = 0, log.floor
  local oldest = max_age_ms and string.format('%.0f-0', math.max(now_ms() - max_age_ms, 0))
  local first = oldest and redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  -- Looked at first: an XREVRANGE from before the first entry walks the whole stream.
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

local function extent(log, last)
  local ancestors = {}
  for _, ancestor in ipairs(log.ancestors) do
    table.insert(ancestors, ancestor[1])
    table.insert(ancestors, ancestor[2])
  end
  return { log.epoch, log.floor, last, string.format('%.0f', now_ms()), ancestors }
end
