-- The members of a channel, and the end of the log at the same moment.
-- ARGV[2…]: the channel; the longest value of a member in bytes, and the bytes of all of them. Any client of Redis may
-- write to the key, so a longer value does not come from a node. It is left out, and so is what exceeds the sum.
-- Returns the cursor, and then each member's JSON.
local longest, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local members = { stream().last .. '.' .. log.epoch }
for _, value in ipairs(redis.call('HVALS', HERE .. 'of:' .. ARGV[2])) do
  if #value <= longest then
    room = room - #value
    if room < 0 then break end
    members[#members + 1] = string.match(value, '^%d+ (.*)$')
  end
end
return members
