-- The event's state, a hash of numbers: fields are read into event.state, and what changed is written once, at the end.
-- include: basics, keys
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)

-- Reads fields into event.state, but for those that the step has already set.
local function read_state(event, ...)
  local state, unsaved = event.state, event.unsaved
  local values = call('HMGET', STATE, ...)
  for i, field in ipairs({...}) do
    if not unsaved[field] then state[field] = tonumber(values[i]) end
  end
end

local function set_state(event, field, value)
  event.state[field] = value
  event.unsaved[field] = true
end

-- Writes what set_state changed. A step calls it once, before it returns.
local function save_state(event)
  local fields, state = {}, event.state
  for field in pairs(event.unsaved) do
    fields[#fields + 1] = field
    fields[#fields + 1] = format('%.17g', state[field])
  end
  if #fields > 0 then call('HSET', STATE, unpack(fields)) end
  event.unsaved = {}
end

-- Adds people to a total that is only counted here, never read by the step. Written at once.
local function add_to_total(field, people)
  if people ~= 0 then call('HINCRBY', STATE, field, people) end
end
