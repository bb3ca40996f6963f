-- Takes an event out of the list of events unless somebody was active in it since it was read.
-- include: basics
-- KEYS     1 the events
-- ARGV     1 event   2 the activity that was read with it, in ms
-- Returns  1 if it was taken out
-- Complexity O(log E)
local events, event_id, activity_read = KEYS[1], ARGV[1], tonumber(ARGV[2])

local activity = call('ZSCORE', events, event_id)
if activity and tonumber(activity) == activity_read then return call('ZREM', events, event_id) end
return 0
