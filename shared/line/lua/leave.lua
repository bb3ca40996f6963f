-- Takes a batch of tickets out of the line, cancels their reservations that nobody has redeemed, and releases their
-- sessions.
-- include: abandonment, basics, depart, event, keys, release, reservation, state
-- KEYS     as keys
-- ARGV     as event, then from STEP the tickets
-- Returns  how many left
-- Complexity O(log N) a ticket
local event, refused = load_event()
if refused then return refused end

local left, abandoned = 0, {}
for i = STEP, #ARGV do
  local ticket = ARGV[i]
  local has_left, _, in_line = depart(event, ticket)
  if in_line == 1 then abandoned[#abandoned + 1] = ticket end
  if read_reservation(ticket) or call('ZSCORE', SESSIONS, ticket) then
    release_session(event, ticket)
    has_left = cancel_reservation(ticket) or has_left
  end
  if has_left then left = left + 1 end
end
count_abandoned(event, abandoned)
save_state(event)
add_to_total('left', left)
return left
