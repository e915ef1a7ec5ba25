-- The channels that have members, in their order. ARGV[2…]: a name after which to start (or nothing), how many.
local after = ARGV[2] == '' and '-' or '(' .. ARGV[2]
return redis.call('ZRANGEBYLEX', HERE .. 'channels', after, '+', 'LIMIT', 0, ARGV[3])
