-- longtail_publish: KEYS[1] is the log; ARGV: a channel, a payload, then names and values of event,
-- exclude and key. Returns the message's cursor.
local function refuse(text) return redis.error_reply('ERR longtail_publish: ' .. text) end

local channel, data = ARGV[1], ARGV[2]
if #KEYS ~= 1 or #ARGV < 2 or #ARGV % 2 == 1 then
  return refuse('use FCALL longtail_publish 1 LOG CHANNEL DATA [event NAME] [exclude CLIENT] [key KEY]')
end

-- Every valid sequence becomes a space, so that the bytes around it cannot form a valid one.
local function is_utf8(text)
  local sound = { '[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]',
    '\237[\128-\159][\128-\191]', '\240[\144-\191][\128-\191][\128-\191]',
    '[\241-\243][\128-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]' }
  for _, pattern in ipairs(sound) do text = string.gsub(text, pattern, ' ') end
  return not string.find(text, '[\128-\255]')
end

if channel == '' or #channel > 200 or string.find(channel, '[^A-Za-z0-9_%-%.:/=@~]') then
  return refuse('a channel is 1 to 200 of A-Z a-z 0-9 _ - . : / = @ ~')
end
-- A node writes its settings when it opens a log, and again within about a second if FLUSHALL has removed them. Without
-- them the function cannot tell which messages the nodes would skip, or whether any node reads the log: nodes do not
-- read a log under a wrong prefix.
local limit = tonumber(redis.call('HGET', '{' .. LOG .. '}:settings', 'max-message-bytes') or '')
if not limit then
  return refuse('no node has registered this log: its key is P:log with the P of --redis-prefix, and a node has to start ' ..
    'first; if all keys were deleted, a running node registers it again within two seconds: try again then')
end
if not is_utf8(data) then return refuse('the payload is not UTF-8') end
if #data > limit then return refuse('the payload is longer than --max-message-bytes (' .. string.format('%.0f', limit) .. ')') end

local entry, key = { 'channel', channel, 'data', data }, nil
local reserved = { hello = 1, heartbeat = 1, gap = 1, bye = 1, error = 1, open = 1 }
for at = 3, #ARGV, 2 do
  local name, value = ARGV[at], ARGV[at + 1]
  if name == 'event' then
    if value == '' or #value > 200 or string.find(value, '%c') or string.find(value, '\194[\128-\159]')
      or not is_utf8(value) or reserved[value] then
      return refuse('an event is 1 to 200 bytes without control characters, and not a reserved name')
    end
  elseif name == 'exclude' then
    -- In this case all readers get the message, and the nodes log a warning. The alternative would be to drop a message
    -- that readers need.
    if value == '' or #value > 100 or string.find(value, '[^A-Za-z0-9_%-%.:@]') then
      name, value = 'ignored', 'exclude'
    end
  elseif name == 'key' then
    if value == '' or #value > 200 then return refuse('a key is 1 to 200 bytes') end
    -- The key is written as the nodes write it, so that a PUBLISH with the same key also counts.
    key = '{' .. LOG .. '}:key:5:' .. #channel .. ':redis:' .. channel .. ':' .. value
  else
    return refuse('the options are event, exclude and key')
  end
  if name ~= 'key' then
    table.insert(entry, name)
    table.insert(entry, value)
  end
end

-- An epoch for a log that needs one: a number in base 36, without a leading zero.
local time = redis.call('TIME')
CANDIDATE, SERVER = '1' .. string.sub(redis.sha1hex(time[1] .. ' ' .. time[2] .. data), 1, 10), ''
local log = ensure()
local known = key and redis.call('GET', key)
local there = known and keyed(log, known, entry)
if there then return there end
if key then
  local bytes = tonumber(redis.call('HGET', '{' .. LOG .. '}:settings', 'key-bytes') or '') or KEY_BYTES
  local room = key_room(bytes, KEY_LIFE)
  local size = room.of('redis', key)
  local wait = room.take('redis', size, known and { { cursor = known, bytes = size } } or {})
  if wait then
    return refuse('the keys of publishers through Redis take their share of --key-bytes, since each is remembered for ' ..
      'five minutes: try again in ' .. string.format('%.0f', math.ceil(wait / 1000)) .. ' s')
  end
end
local cursor = redis.call('XADD', LOG, '*', unpack(entry)) .. '.' .. log.epoch
if log.added then set_tip(log, log.added + 1) end
-- Functions do not roll back, so the key comes after the entry.
if key then redis.call('SET', key, cursor, 'PX', KEY_LIFE) end
return cursor
