-- Returns the keys of sealed bookmarks, the present one and the previous one (or nothing). ARGV[2…]: a new key, which
-- becomes the present one if there is none or if it is too old; after how many ms a key is too old.
--
--   seal   a hash: present, previous (keys as src/log/seal_keys/mod.rs writes them), since (when the present one came)
--
-- If no node asks for the keys any more, they expire.
local SEAL = '{' .. LOG .. '}:seal'
local now, life = now_ms(), tonumber(ARGV[3])
local found = redis.call('HMGET', SEAL, 'present', 'previous', 'since')
local present, previous, since = found[1], found[2], tonumber(found[3] or '0')
if not present or since > now or now - since >= life then
  present, previous = ARGV[2], present
  redis.call('HSET', SEAL, 'present', present, 'since', string.format('%.0f', now))
  if previous then redis.call('HSET', SEAL, 'previous', previous) end
end
redis.call('PEXPIRE', SEAL, string.format('%.0f', 3 * life))
return { present, previous or '' }
