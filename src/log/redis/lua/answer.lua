-- longtail_answer: KEYS[1] is the log, with or without braces; ARGV: the id of a call, and the answer in JSON (empty if
-- there is nothing to say). Returns 1 if a node waits for the answer. Returns 0 if it came too late: the time of the
-- call is over, or the call has an answer, or there was no such call. lua/calls.lua describes the records of calls.
local LOG = string.match(KEYS[1] or '', '^{(.*)}$') or KEYS[1]
local id, answer = ARGV[1], ARGV[2]
if #KEYS ~= 1 or #ARGV ~= 2 then
  return redis.error_reply('ERR longtail_answer: use FCALL longtail_answer 1 {P:log} CALL-ID ANSWER')
end
local beside = '{' .. LOG .. '}:'
-- Without the settings, no node has had a log of this name.
if redis.call('EXISTS', beside .. 'settings') == 0 then
  return redis.error_reply('ERR longtail_answer: no node has registered this log: its key is P:log with the P of ' ..
    '--redis-prefix')
end

-- A worker can answer again after a refusal: the call still waits.
local function refuse(text)
  redis.call('HINCRBY', beside .. 'answers', 'refused', 1)
  return redis.error_reply('ERR longtail_answer: ' .. text)
end

if id == '' or #id > 200 or string.find(id, '[^A-Za-z0-9_%-%.:]') then
  return refuse('the id of a call is the field id of its entry')
end
if #answer > 1048576 then return refuse('an answer has at most 1 MiB') end
if string.find(answer, '[\128-\255]') and not is_utf8(answer) then return refuse('the answer is not UTF-8') end
-- PHP writes an array without fields as a list. cjson.decode would also accept NaN, which no node can read.
if answer ~= '' and not is_json(answer, '{') and not string.find(answer, '^[ \t\r\n]*%[[ \t\r\n]*%][ \t\r\n]*$') then
  return refuse('the answer is not a JSON object, such as {"ack":[1]}')
end

-- Several attempts may wait under one id: the client has sent its event again at another node, because it did not hear
-- of the first attempt. Only one of them may carry out the answer: the newest, because the client waits there. Attempts
-- wait equally long, so it is the one that ends last.
local record = beside .. 'call:' .. id
local list, time = redis.call('HGETALL', record), redis.call('TIME')
local now, waits, newest, over = time[1] * 1000 + math.floor(time[2] / 1000), 0, nil, 0
for i = 1, #list, 2 do
  local ends = tonumber(list[i + 1]) or 0
  if now < ends and string.find(list[i], '^[0-9a-f%-]+ %d+$') then
    waits = waits + 1
    if ends > over then newest, over = list[i], ends end
  end
end
if not newest then
  redis.call('HINCRBY', beside .. 'answers', 'late', 1)
  return 0
end
local node, attempt = string.match(newest, '^(%S+) (%d+)$')
local answers = beside .. 'answers:' .. node
redis.call('XADD', answers, '*', 'attempt', attempt, 'answer', answer)
-- The node removes what it has read. This is for a node that has ended.
redis.call('PEXPIRE', answers, 120000)
-- The record stays until the node has read the answer: a node that does not find its attempt sends the call again. The
-- time becomes 0; workers may run HINCRBY, but not HSET.
redis.call('HINCRBY', record, newest, string.format('%.0f', -over))
if waits == 1 then redis.call('PEXPIRE', record, 10000) end
return 1
