-- The entries of a range, oldest first, and whether the reply leaves out some of them because of its size.
-- ARGV[2…]: the position to read after, the last position, how many entries; the limits of `bounded`.
local entries = redis.call('XRANGE', LOG, '(' .. ARGV[2], ARGV[3], 'COUNT', ARGV[4])
local kept, is_cut = bounded(entries, tonumber(ARGV[5]), tonumber(ARGV[6]))
return { kept, is_cut }
