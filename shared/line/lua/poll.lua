-- Where a batch of tickets stands: hears them, opens the door, and says their exact places.
-- include: event, door
-- KEYS     as event
-- ARGV     as event, then STEP 1 during door grace, else 0; then the tickets
-- Returns  standing, and two a ticket: code (0 gone, 1 waiting, 2 ready, 3 admitted) and position
-- Complexity O(log N) a ticket
local tickets = {unpack(ARGV, STEP + 1)}
local found = attend(tickets)
local passed = open_door(ARGV[STEP] == '1')
local may_enter = tokens >= 1 and not damaged and not paused
local results = {}
for i, ticket in ipairs(tickets) do
  local place, code, at = found[i], 1, 0
  if not place then
    code = 0
  elseif place == 'admitted' then
    code = 3
  elseif place ~= true and place >= passed then
    at = position(ticket, place - passed)
  else
    at = position(ticket)
    if may_enter then code = 2 end
  end
  results[#results + 1] = code
  results[#results + 1] = at
end
save()
return {standing(), results}
