-- Takes a batch of tickets out of the line, and cancels their reservations that nobody has redeemed.
-- include: basics, depart, event, keys, reservation, state
-- KEYS     as keys
-- ARGV     as event, then from STEP the tickets
-- Returns  how many left
-- Complexity O(log N) a ticket
local event, refused = load_event()
if refused then return refused end

local left = 0
for i = STEP, #ARGV do
  local ticket = ARGV[i]
  local has_left = depart(event, ticket)
  local issued, redeemed = read_reservation(ticket)
  if issued and not redeemed then
    call('HDEL', PASSES, ticket)
    call('ZREM', ADMITTED, ticket)
    has_left = true
  end
  if has_left then left = left + 1 end
end
save_state(event)
add_to_total('left', left)
return left
