-- Refreshes the heartbeats of waiters who polled under a lease. Those who have gone stay gone.
-- KEYS     1 the event's heartbeats
-- ARGV     1 clock override in us, or '' for the server's TIME; then the tickets, at most 500
-- Returns  how many were refreshed
-- Complexity O(log N) a ticket
local time = redis.call('TIME')
local now = string.format('%.0f', math.floor((tonumber(ARGV[1]) or time[1] * 1000000 + time[2]) / 1000))
local heard = {}
for i = 2, #ARGV do
  heard[#heard + 1] = now
  heard[#heard + 1] = ARGV[i]
end
return redis.call('ZADD', KEYS[1], 'XX', 'GT', 'CH', unpack(heard))
