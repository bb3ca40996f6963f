-- Compares the counts of an event's log with those of everything rebuilt from it.
-- include: basics, event, keys, state
-- KEYS     as keys
-- ARGV     as event
-- Returns  1 if the places differ from what the log's joins and departures left or nobody knows, 1 if heartbeats
--          were missing at this look and at the one before, log entries, members, standing, 1 if the log is being
--          walked, or has just been walked and this is what could not be mended
-- Complexity O(1)
local event, refused = load_event()
if refused then return refused end

local now, state, logged, members = event.now, event.state, event.logged, event.members
read_state(event, 'verified', 'recount', 'thin', 'walking', 'walked', 'walked_off')
-- One look is not enough: a batch's heartbeats follow its joins by one round trip.
local thin = call('ZCARD', HEARTBEAT) < members
local thin_twice = thin and state.thin == 1
if state.last and (thin and 1 or 0) ~= (state.thin or 0) then set_state(event, 'thin', thin and 1 or 0) end
local places_differ = logged > 0 and (state.recount == 1 or call('HLEN', PLACES) ~= (state.verified or 0))
local function within(ms, time) return time and now >= time and now - time < ms end
local missing = logged - members
local walked = within(10000, state.walking)
  or (missing ~= 0 and missing == state.walked_off and within(60000, state.walked))
save_state(event)
return {places_differ and 1 or 0, thin_twice and 1 or 0, logged, members, standing(event), walked and 1 or 0}
