-- The time on Redis's clock, which is the only clock of the line.
-- include: basics
-- KEYS     none
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)

-- Returns the time in ms and in us. `override` is a time in us that replaces TIME (for tests), or ''.
local function read_clock(override)
  local us = tonumber(override)
  if not us then
    local time = call('TIME')
    us = time[1] * 1000000 + time[2]
  end
  return floor(us / 1000), us
end
