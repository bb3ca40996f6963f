-- Short names for what nearly every step uses. A local is found faster than a field of a global table.
-- KEYS     none
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)
local call, floor, max, min, format = redis.call, math.floor, math.max, math.min, string.format

-- A whole number as Redis should store it. Lua itself prints a ticket as 1.79e+15.
local function int(number) return format('%.0f', number) end
