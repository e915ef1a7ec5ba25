-- Whether a text is UTF-8. Every valid sequence becomes a space, so that the bytes around it cannot form a valid one.
local function is_utf8(text)
  local sound = { '[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]',
    '\237[\128-\159][\128-\191]', '\240[\144-\191][\128-\191][\128-\191]',
    '[\241-\243][\128-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]' }
  for _, pattern in ipairs(sound) do text = string.gsub(text, pattern, ' ') end
  return not string.find(text, '[\128-\255]')
end

