-- Refreshes the heartbeats of waiters who polled under a lease. Those who have gone stay gone.
-- include: basics, clock
-- KEYS     1 the event's heartbeats
-- ARGV     1 clock override in us, or '' for the server's TIME; then the tickets, at most 500
-- Returns  how many were refreshed
-- Complexity O(log N) a ticket
local heartbeats, now = KEYS[1], int(read_clock(ARGV[1]))

local refreshed = {}
for i = 2, #ARGV do
  refreshed[#refreshed + 1] = now
  refreshed[#refreshed + 1] = ARGV[i]
end
return call('ZADD', heartbeats, 'XX', 'GT', 'CH', unpack(refreshed))
