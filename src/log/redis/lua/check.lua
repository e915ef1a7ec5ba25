-- The log as it is. Answers nothing where it has no identity.
local log = identity()
if not log then return {} end
return extent(log, audit(log))
