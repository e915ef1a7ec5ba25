-- Whether a text is a JSON array (`opening` is `[`) or a JSON object (`{`) by the grammar of RFC 8259, as the nodes read
-- it. cjson.decode also accepts NaN, inf, 0x10, 01, 1. and raw control characters in strings, and it refuses values in
-- more than 1,000 levels.
local function is_json(text, opening)
  local function skip_space(at) return string.find(text, '[^ \t\r\n]', at) or #text + 1 end

  -- The position after a string whose text begins here.
  local function string_end(at)
    while true do
      local found = string.find(text, '["\\%z\1-\31]', at)
      local char = found and string.sub(text, found, found)
      if char == '"' then return found + 1 end
      if char ~= '\\' then return nil end
      if string.find(text, '^["\\/bfnrt]', found + 1) then
        at = found + 2
      elseif string.find(text, '^u%x%x%x%x', found + 1) then
        at = found + 6
      else
        return nil
      end
    end
  end

  -- The position after the number or the literal that begins here. Payloads may be long lists of numbers.
  local literals = { t = 'true', f = 'false', n = 'null' }
  local function plain_end(at)
    local _, stop = string.find(text, '^-?[1-9]%d*', at)
    if not stop then _, stop = string.find(text, '^-?0', at) end
    if not stop then
      local word = literals[string.sub(text, at, at)]
      return word and string.sub(text, at, at + #word - 1) == word and at + #word or nil
    end
    if not string.find(text, '^[.eE]', stop + 1) then return stop + 1 end
    local _, fraction = string.find(text, '^%.%d+', stop + 1)
    local _, exponent = string.find(text, '^[eE][+-]?%d+', (fraction or stop) + 1)
    return (exponent or fraction or stop) + 1
  end

  local closing = { ['['] = ']', ['{'] = '}' }
  local at = skip_space(1)
  if string.sub(text, at, at) ~= opening then return false end
  -- The open brackets. They are in a table, because a recursion would have a limit on its depth.
  local open, depth = {}, 0
  -- Whether a comma or an end comes next, and whether the bracket before has nothing in it yet.
  local is_after_value, is_empty = false, false
  repeat
    local char, stop = string.sub(text, at, at), nil
    local bracket = open[depth]
    if (is_after_value or is_empty) and char == closing[bracket] then
      depth, stop, is_after_value, is_empty = depth - 1, at + 1, true, false
    elseif is_after_value then
      if char == ',' then stop, is_after_value = at + 1, false end
    else
      is_empty = false
      if bracket == '{' then
        local colon = char == '"' and string_end(at + 1)
        colon = colon and skip_space(colon)
        if not colon or string.sub(text, colon, colon) ~= ':' then return false end
        at = skip_space(colon + 1)
        char = string.sub(text, at, at)
      end
      if closing[char] then
        depth, stop, is_empty = depth + 1, at + 1, true
        open[depth] = char
      else
        is_after_value = true
        if char == '"' then stop = string_end(at + 1) else stop = plain_end(at) end
      end
    end
    if not stop then return false end
    at = skip_space(stop)
  until depth == 0
  return at > #text
end
