-- Appends a batch: idempotency keys, entries, this node's record and the trim in one step.
-- KEYS[2]: the node's record of its last batch; KEYS[3…]: idempotency keys.
-- ARGV[2…]: the batch's number, entries kept, age kept in ms (or nothing, if this batch does not trim by age), life of
-- an idempotency key in ms, how many entries were ever added up to the tail's position (or nothing), the tail's epoch
-- and the bytes that idempotency keys may take; then for each append: the publisher in whose share its keys count (or
-- nothing), how many messages, and for each message: the index of its key in KEYS or 0, the count of its fields and
-- values, and the fields and values.
-- Returns, in one text: the epoch; the tail's number if only this batch follows the tail's position, otherwise `-`;
-- then for each message its id, or the whole cursor of the message that already had its key, or `!` and how many ms
-- later there may be room for its key (0: never). If there is no room for the keys of an append, the whole append is
-- left out.
--
-- Numbers that are passed to Redis are texts here: Redis converts each number to a text, which costs as much as a small
-- command.
--
-- A node numbers its batches and has one under way. The script answers a repeated batch from the record. It refuses a
-- batch that comes after a later one, so that a batch that the node has given up is never appended later.
local record = redis.call('GET', KEYS[2])
if record then
  local last, answer = string.match(record, '^(%d+) (.*)$')
  if last == ARGV[2] then
    -- This is a write, so that a WAIT after it has an effect: WAIT covers only the writes of its own connection.
    redis.call('PEXPIRE', KEYS[2], 600000)
    return answer
  end
  if tonumber(last) > tonumber(ARGV[2]) then return redis.error_reply('LATE a later batch of this node was appended') end
end

local log = ensure()
-- Entries that are written now would count as part of an epoch that does not belong to this connection: the log has to
-- be opened first.
if log.server ~= SERVER then return redis.error_reply('FORK the log was opened at another server') end
local answer, added, newest = { log.epoch, '-' }, log.added or stream().added, nil
if ARGV[7] == log.epoch then
  local read = tonumber(ARGV[6])
  if added < read then return redis.error_reply('FORK the log has fewer entries than this node has read') end
  -- The counts are compared, because they include entries that were added and trimmed before the tail could read them.
  if added == read then answer[2] = ARGV[6] end
end
-- The messages that have the keys: the cursor of each, or false. And the cursor that Redis has for a key, even if the
-- log does not hold its message.
local known, stale, room = {}, {}, nil

-- Looks up the keys of an append, and takes room for the new keys. The result is that of `room.take`.
local function admit(owner, at, messages)
  local bytes, new, again = 0, {}, {}
  room = room or key_room(tonumber(ARGV[8]), tonumber(ARGV[5]))
  for _ = 1, messages do
    local key = KEYS[tonumber(ARGV[at])]
    if key and known[key] == nil then
      local cursor = redis.call('GET', key)
      known[key] = cursor and keyed(log, cursor, { unpack(ARGV, at + 2, at + 1 + tonumber(ARGV[at + 1])) }) or false
      stale[key] = cursor
    end
    -- A key that occurs twice in an append takes room once.
    if key and not known[key] and not new[key] then
      new[key], bytes = true, bytes + room.of(owner, key)
      if stale[key] then again[#again + 1] = { cursor = stale[key], bytes = room.of(owner, key) } end
    end
    at = at + 2 + tonumber(ARGV[at + 1])
  end
  return bytes > 0 and room.take(owner, bytes, again)
end

local at, last = 9, #ARGV
while at <= last do
  local owner, messages = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  local wait = owner ~= '' and admit(owner, at, messages)
  for _ = 1, messages do
    local key, count = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1])
    local cursor = key and known[key]
    if wait then
      cursor = '!' .. string.format('%.0f', wait)
    elseif not cursor then
      cursor = redis.call('XADD', LOG, '*', unpack(ARGV, at + 2, at + 1 + count))
      newest, added = cursor, added + 1
      -- Scripts do not roll back, so the key comes after the entry: otherwise a failure in between would leave a key
      -- for a message that does not exist.
      if key then
        known[key] = cursor .. '.' .. log.epoch
        redis.call('SET', key, known[key], 'PX', ARGV[5])
      end
    end
    answer[#answer + 1] = cursor
    at = at + 2 + count
  end
end
if newest then
  set_mark(log, newest, added)
  set_tip(log, added)
end
answer = table.concat(answer, ' ')
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. answer, 'PX', '600000')
local kept = tonumber(ARGV[3])
if ARGV[4] ~= '' or redis.call('XLEN', LOG) > kept then trim(log, kept, tonumber(ARGV[4])) end
return answer
