-- Adds connections to channels.
-- ARGV[2…]: the lease, the numbers of this call on it and of the last answered one, the limit on a channel's members, 1 if the node may write entries of presence; then for each
-- join: the channel, the connection, the user's id, the user's JSON, in how many ms it ends (nothing: with the lease),
-- 1 if it is repeated, the connection that it replaces (or nothing), the age in ms of the stream or of the polling client's
-- newest request.
-- Returns for each join 1 (a member), 0 (the channel is full), 2 (an entry is needed and may not be written) or 3 (a
-- stream has taken the place of the polling client).
clock = tick()
local lease, most, may_append = ARGV[2], tonumber(ARGV[5]), ARGV[6] == '1'
follow(lease, tonumber(ARGV[3]), tonumber(ARGV[4]))

local function join(channel, connection, user, data, ends_in, is_again, replaces, age)
  if ends_in ~= '' and is_gone(channel, connection, age) then return 3 end
  local at, digest = HERE .. 'at:' .. channel, redis.sha1hex(data)
  local hangs_on, said, known = find(channel, connection)
  local count, before = member_of(channel, user)
  -- A connection that says the same as before is not news: otherwise two tabs with different info would change it in
  -- turn.
  local is_news = not is_again
  if known == user then is_news = said ~= digest end
  local changes = before and is_news and before ~= data
  if not may_append and (not before or changes or (known and known ~= user)) then return 2 end
  if known and known ~= user then
    drop(channel, connection)
    hangs_on, known = nil, nil
  end
  if not before and not is_again and redis.call('HLEN', HERE .. 'of:' .. channel) >= most then return 0 end
  -- A deadline stays, so that it does not move back.
  if hangs_on and (hangs_on ~= '-' or ends_in == '') then unhang(channel, connection, hangs_on) end
  if ends_in == '' then
    redis.call('SADD', HERE .. 'lease:' .. lease, channel .. ' ' .. connection)
  else
    set_deadline(channel, connection, ends_in)
  end
  redis.call('HSET', at, connection, (ends_in == '' and lease or '-') .. ' ' .. digest .. ' ' .. user)
  if not before then redis.call('ZADD', HERE .. 'channels', 0, channel) end
  if changes then append('member_removed', channel, before) end
  if not before or changes then append('member_added', channel, data) end
  set_member(channel, user, count + (known and 0 or 1), changes and data or before or data)
  if replaces ~= '' and replaces ~= connection then
    local _, _, other = find(channel, replaces)
    if other == user then
      drop(channel, replaces)
      -- The stream may have begun before the store hears of it, and a poll after it.
      redis.call('ZADD', REPLACED, 'GT', score(now_ms() - tonumber(age)), channel .. ' ' .. replaces)
      redis.call('PEXPIRE', REPLACED, score(KEPT_REPLACED))
    end
  end
  return 1
end

local outcomes = {}
for at = 7, #ARGV, 8 do
  outcomes[#outcomes + 1] = join(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5] == '1',
    ARGV[at + 6], ARGV[at + 7])
end
finish()
return outcomes
