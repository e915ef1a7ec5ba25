-- Ends a session. ARGV[3]: the id. Returns the bookmark and its position, or nothing if it has ended already.
local bookmark, cursor = remove_session(ARGV[3])
return bookmark and { bookmark, cursor } or {}
