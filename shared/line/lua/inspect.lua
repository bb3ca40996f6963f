-- Compares the counts of an event's log with those of everything rebuilt from it.
-- include: event
-- KEYS     as event
-- ARGV     as event
-- Returns  1 if the places differ from what the log's joins and departures left or nobody knows, 1 if heartbeats
--          were missing at this look and at the one before, log entries, members, standing, 1 if the log is being
--          walked, or has just been walked and this is what could not be mended
-- Complexity O(1)
read('verified', 'recount', 'thin', 'walking', 'walked', 'walked_off')
-- One look is not enough: a batch's heartbeats follow its joins by one round trip.
local thin = call('ZCARD', HEARTBEAT) < members
local twice = thin and state.thin == 1
if state.last and (thin and 1 or 0) ~= (state.thin or 0) then set('thin', thin and 1 or 0) end
local differ = logged > 0 and (state.recount == 1 or call('HLEN', PLACES) ~= (state.verified or 0))
local function within(ms, at) return at and now >= at and now - at < ms end
local off = logged - members
local walked = within(10000, state.walking) or (off ~= 0 and off == state.walked_off and within(60000, state.walked))
save()
return {differ and 1 or 0, twice and 1 or 0, logged, members, standing(), walked and 1 or 0}
