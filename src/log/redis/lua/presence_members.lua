-- The members of a channel, and the end of the log at the same moment.
-- ARGV[2]: the channel. Returns the cursor, and then each member's JSON.
local members = { stream().last .. '.' .. log.epoch }
for _, value in ipairs(redis.call('HVALS', HERE .. 'of:' .. ARGV[2])) do
  members[#members + 1] = string.match(value, '^%d+ (.*)$')
end
return members
