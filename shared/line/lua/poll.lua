-- Where a batch of tickets stands: writes their heartbeats, opens the door, and says their exact positions.
-- include: codes, door, event, openings, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 during door grace, else 0; then the tickets
-- Returns  standing, and two a ticket: code (PollCode) and position
-- Complexity O(log N) a ticket
local event, refused = load_event()
if refused then return refused end
local grace, tickets = ARGV[STEP] == '1', {unpack(ARGV, STEP + 1)}

local door = load_door(event)
local locations = touch_and_locate(event, door, tickets)
release_hesitant(event, door)
local passed = open_door(event, door, grace)
local may_enter = openings(event) >= 1 and not event.damaged and not event.paused
local results = {}
for i, ticket in ipairs(tickets) do
  local location, code, place = locations[i], POLL_WAITING, 0
  if not location then
    code = POLL_GONE
  elseif location == 'admitted' then
    code = POLL_ADMITTED
  elseif location ~= 'called' and location >= passed then
    -- What position() would say, without calling it for everybody in line (3 % of a poll, measured).
    if not event.damaged then place = door.fresh_calls + location - passed + 1 end
  else
    place = position(event, door, ticket)
    if may_enter then code = POLL_READY end
  end
  results[#results + 1] = code
  results[#results + 1] = place
end
save_state(event)
return {standing(event), results}
