-- longtail_publish: KEYS[1] is the log; ARGV: a channel (empty if the option channels names several), a payload, then
-- names and values of event, exclude, key, channels, except and args. Returns the message's cursor.
local function refuse(text) return redis.error_reply('ERR longtail_publish: ' .. text) end

local channel, data = ARGV[1], ARGV[2]
if #KEYS ~= 1 or #ARGV < 2 or #ARGV % 2 == 1 then
  return refuse('use FCALL longtail_publish 1 LOG CHANNEL DATA [event NAME] [exclude CLIENT] [key KEY] ' ..
    '[channels NAME,NAME] [except NAME,NAME] [args 1]')
end

local options = {}
for at = 3, #ARGV, 2 do options[ARGV[at]] = ARGV[at + 1] end

-- The items of a list, but not more than 101 of them.
local function items(list)
  local found = {}
  for item in string.gmatch(list .. ',', '([^,]*),') do
    found[#found + 1] = item
    if #found > 100 then break end
  end
  return found
end

local function is_channel(name) return name ~= '' and #name <= 200 and not string.find(name, '[^A-Za-z0-9_%-%.:/=@~]') end

local several = {}
if options.channels then
  if channel ~= '' then return refuse('name one channel, or an empty channel and the option channels, not both') end
  several = items(options.channels)
  if #several > 100 then return refuse('a message may have at most 100 channels') end
end
local names, seen = {}, {}
for _, name in ipairs(options.channels and several or { channel }) do
  if not is_channel(name) then return refuse('a channel is 1 to 200 of A-Z a-z 0-9 _ - . : / = @ ~') end
  if string.sub(name, 1, 1) == '~' then return refuse('channel names that begin with ~ are reserved for the server') end
  if not seen[name] then names[#names + 1], seen[name] = name, true end
end
channel = table.concat(names, ',')
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

local entry, key = { #names > 1 and 'channels' or 'channel', channel, 'data', data }, nil
local is_extended = #names > 1
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
  elseif name == 'except' then
    local usable, list = {}, items(value)
    if #list > 100 then return refuse('except may have at most 100 items') end
    for _, item in ipairs(list) do
      if is_channel(item) and string.sub(item, 1, 1) ~= '~' then usable[#usable + 1] = item end
    end
    if #usable < #list then
      table.insert(entry, 'ignored')
      table.insert(entry, 'exclude')
    end
    value = table.concat(usable, ',')
    is_extended = is_extended or #usable > 0
  elseif name == 'args' then
    if value ~= '1' then return refuse('args is 1, if the payload is an array of arguments') end
    if not is_json(data, '[') then return refuse('with args, the payload is a JSON array') end
    is_extended = true
  elseif name ~= 'channels' then
    return refuse('the options are event, exclude, key, channels, except and args')
  end
  if name ~= 'key' and name ~= 'channels' and value ~= '' then
    table.insert(entry, name)
    table.insert(entry, value)
  end
end
if is_extended then
  -- A node notes every second which format all nodes read.
  local format, noted = string.match(redis.call('HGET', '{' .. LOG .. '}:settings', 'format') or '', '^(%d+) (%d+)$')
  if not format or tonumber(format) < 2 or math.abs(now_ms() - tonumber(noted)) > 10000 then
    return refuse('channels, except and args need that a node runs, and that no node of an older version runs')
  end
  table.insert(entry, 1, '2')
  table.insert(entry, 1, 'v')
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
