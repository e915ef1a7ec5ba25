-- Reads the counts of other nodes. KEYS[2]: the nodes. ARGV: the asking node, `names` or `counts`, and
--   names: a prefix, a name after which to start (or nothing), how many. Returns names, by node.
--   counts: channels. Returns how many other nodes there are, and for each channel their counts,
--   and the polling clients of all nodes, as `<transport>=<n>,…`, with spaces between the nodes.
local now = now_ms()
local nodes = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], string.format('(%.0f', now), '+inf')) do
  if node ~= ARGV[1] then table.insert(nodes, '{' .. LOG .. '}:census:' .. node) end
end
if ARGV[2] == 'names' then
  local prefix, after = ARGV[3], ARGV[4]
  local from = after < prefix and '[' .. prefix or '(' .. after .. '!'
  local names = {}
  for _, node in ipairs(nodes) do
    for _, member in ipairs(redis.call('ZRANGEBYLEX', node, from, '(' .. prefix .. '\255', 'LIMIT', 0, ARGV[5])) do
      table.insert(names, string.match(member, '^(%S+) '))
    end
  end
  return names
end
local answer = { #nodes }
for at = 3, #ARGV do
  local channel, counts, pollers = ARGV[at], {}, {}
  for _, node in ipairs(nodes) do
    local member = redis.call('ZRANGEBYLEX', node, '[' .. channel .. ' ', '(' .. channel .. '!')[1]
    if member then table.insert(counts, string.sub(member, #channel + 2)) end
  end
  for _, name in ipairs({ 'poll', 'long-poll', 'jsonp' }) do
    local key = '{' .. LOG .. '}:pollers:' .. name .. ':' .. channel
    local count = redis.call('ZCOUNT', key, string.format('(%.0f', now), '+inf')
    if count > 0 then table.insert(pollers, name .. '=' .. count) end
  end
  table.insert(answer, table.concat(counts, ' '))
  table.insert(answer, table.concat(pollers, ','))
end
return answer
