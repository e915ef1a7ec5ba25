-- Appends a batch: idempotency keys, entries, this node's record and the trim in one step.
-- KEYS[2]: the node's record of its last batch; KEYS[3…]: idempotency keys.
-- ARGV: an epoch for a log that needs one, the batch's number, entries kept, age kept in ms,
-- life of an idempotency key in ms; then for each message: the index of its key in KEYS or 0, how
-- many fields and values, and these.
--
-- A node numbers its batches and has one under way. A batch that comes again is answered from the
-- record; one that comes after a later one is refused, so what was given up is never appended later.
local record = redis.call('GET', KEYS[2])
local number = tonumber(ARGV[2])
if record then
  local last, answer = string.match(record, '^(%d+) (.*)$')
  if tonumber(last) == number then
    -- A write, so that a WAIT behind it proves something: it looks at its own connection's writes only.
    redis.call('PEXPIRE', KEYS[2], 600000)
    return answer
  end
  if tonumber(last) > number then return redis.error_reply('LATE a later batch of this node was appended') end
end

local log = ensure(ARGV[1])
local cursors = {}
local at = 6
while at <= #ARGV do
  local key, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local cursor = key > 0 and redis.call('GET', KEYS[key])
  if not cursor then
    cursor = redis.call('XADD', LOG, '*', unpack(ARGV, at + 2, at + 1 + count)) .. '.' .. log.epoch
    -- Scripts do not roll back: the key after the entry, or a failure between would leave a key
    -- that answers for a message that is not there.
    if key > 0 then redis.call('SET', KEYS[key], cursor, 'PX', ARGV[5]) end
  end
  table.insert(cursors, cursor)
  at = at + 2 + count
end
local answer = table.concat(cursors, ' ')
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. answer, 'PX', 600000)
trim(log, tonumber(ARGV[3]), tonumber(ARGV[4]))
return answer
