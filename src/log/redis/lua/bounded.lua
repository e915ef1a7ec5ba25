-- Bounds a reply with entries. A value that no message can have is cut after this many bytes: a node skips its entry
-- either way. After `total` bytes the remaining entries are left out, but never the first one. Returns the entries, and
-- 1 if some were left out.
local function bounded(entries, longest, total)
  local kept, size = {}, 0
  for i, entry in ipairs(entries) do
    local values = entry[2]
    for j = 1, #values do
      if #values[j] > longest then values[j] = string.sub(values[j], 1, longest) end
      size = size + #values[j]
    end
    if i > 1 and size > total then return kept, 1 end
    kept[i] = entry
  end
  return kept, 0
end

