-- Releases the sessions of a batch of tickets: their passes are good nowhere 3 s later, and their slots free.
-- include: event, pruning, release, reservation, state
-- KEYS     as keys
-- ARGV     as event, then from STEP the tickets
-- Returns  how many were active
-- Complexity O(log N) a ticket, and at most 100 pruned and 100 forgotten
local event, refused = load_event()
if refused then return refused end

local active = 0
for i = STEP, #ARGV do
  active = active + release_session(event, ARGV[i])
  cancel_reservation(ARGV[i])
end
prune_sessions(event, sessions_are_held(event, false))
prune_ended(event)
save_state(event)
return active
