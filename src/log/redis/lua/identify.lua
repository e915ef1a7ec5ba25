-- Returns the log's identity in one text. The tail reads it after each XREAD: a reply of many parts would cost the node
-- more than the entries. The text is empty for a log that has no identity. Otherwise it holds the epoch, the mark, how
-- many entries were ever added or `-`, and for each earlier epoch its name, its last position and whether it was cut.
local log = identity()
if not log or not log.mark then return '' end
local words = { log.epoch, log.mark, log.added and string.format('%.0f', log.added) or '-' }
for _, ancestor in ipairs(log.ancestors) do
  for i = 1, 3 do words[#words + 1] = ancestor[i] end
end
return table.concat(words, ' ')
