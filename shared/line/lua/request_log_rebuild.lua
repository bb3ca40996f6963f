-- Requests that the log of a damaged line be written anew from the members of the line (an operator's decision).
-- include: event, state
-- KEYS     as keys
-- ARGV     as event
-- Returns  1 if the line is damaged and now waits for it, else 0
-- Complexity O(1)
local event, refused = load_event()
if refused then return refused end

if not event.damaged then return 0 end
set_state(event, 'relog', 1)
save_state(event)
return 1
