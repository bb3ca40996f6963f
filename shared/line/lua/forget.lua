-- Takes an event out of the list of events unless somebody was active in it since it was read.
-- KEYS     1 the events
-- ARGV     1 event   2 the activity that was read with it, in ms
-- Returns  1 if it was taken out
-- Complexity O(log E)
local activity = redis.call('ZSCORE', KEYS[1], ARGV[1])
if activity and tonumber(activity) == tonumber(ARGV[2]) then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
