-- Returns the log's extent, or nothing if it has no identity.
local log = identity()
if not log then return {} end
return extent(log, audit(log))
