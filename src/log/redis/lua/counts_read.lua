-- Reads the counts of other nodes. KEYS[2]: the nodes. ARGV: the names of the transports that poll, the asking node (or
-- nothing), `names`, `occupied` or `counts`, and
--   names: a prefix, a name after which to start (or nothing), how many. Returns names, by node.
--   occupied: a name after which to start (or nothing), how many names of each node, for how many ms a node has to be
--   alive. Returns the name up to which these are all channels that have readers (or nothing if there are no more), and
--   then their names, by node.
--   counts: channels. Returns how many other nodes there are, and for each channel their counts,
--   and the polling clients of all nodes, as `<transport>=<n>,…`, with spaces between the nodes.
local now = now_ms()
local nodes = {}
local alive = now + (ARGV[3] == 'occupied' and tonumber(ARGV[6]) or 0)
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], string.format('(%.0f', alive), '+inf')) do
  if node ~= ARGV[2] then table.insert(nodes, '{' .. LOG .. '}:census:' .. node) end
end
if ARGV[3] == 'names' then
  local prefix, after = ARGV[4], ARGV[5]
  local from = after < prefix and '[' .. prefix or '(' .. after .. '!'
  local names = {}
  for _, node in ipairs(nodes) do
    for _, member in ipairs(redis.call('ZRANGEBYLEX', node, from, '(' .. prefix .. '\255', 'LIMIT', 0, ARGV[6])) do
      table.insert(names, string.match(member, '^(%S+) '))
    end
  end
  return names
end
-- How many clients poll a channel by a transport.
local function pollers_of(transport, channel)
  local key = '{' .. LOG .. '}:pollers:' .. transport .. ':' .. channel
  return redis.call('ZCOUNT', key, string.format('(%.0f', now), '+inf')
end
if ARGV[3] == 'occupied' then
  local from, most, upto, found = ARGV[4] == '' and '-' or '(' .. ARGV[4] .. '!', tonumber(ARGV[5]), '', {}
  for _, node in ipairs(nodes) do
    local members = redis.call('ZRANGEBYLEX', node, from, '+', 'LIMIT', 0, most)
    for _, member in ipairs(members) do
      local channel, counts = string.match(member, '^(%S+) (.*)$')
      if channel then
        -- A node may list a client that polls another node by now, or that reads by a stream.
        local is_read = counts ~= ''
        for transport in string.gmatch(ARGV[1], '%S+') do
          is_read = is_read or pollers_of(transport, channel) > 0
        end
        if is_read then found[#found + 1] = channel end
      end
    end
    if #members == most then
      local last = string.match(members[most], '^(%S*)')
      if upto == '' or last < upto then upto = last end
    end
  end
  local answer = { upto }
  for _, channel in ipairs(found) do
    if upto == '' or channel <= upto then answer[#answer + 1] = channel end
  end
  return answer
end
local answer = { #nodes }
for at = 4, #ARGV do
  local channel, counts, pollers = ARGV[at], {}, {}
  for _, node in ipairs(nodes) do
    local member = redis.call('ZRANGEBYLEX', node, '[' .. channel .. ' ', '(' .. channel .. '!')[1]
    if member then table.insert(counts, string.sub(member, #channel + 2)) end
  end
  for name in string.gmatch(ARGV[1], '%S+') do
    local count = pollers_of(name, channel)
    if count > 0 then table.insert(pollers, name .. '=' .. count) end
  end
  table.insert(answer, table.concat(counts, ' '))
  table.insert(answer, table.concat(pollers, ','))
end
return answer
