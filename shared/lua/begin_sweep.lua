-- Takes the lease of the sweep, so that one worker sweeps at a time.
-- KEYS     1 the sweep
-- ARGV     1 clock override in us, or '' for the server's TIME   2 the worker   3 the lease in ms
-- Returns  the rank of the event to begin at, or -1 while another worker holds the lease
-- Complexity O(1)
local time = redis.call('TIME')
local now = math.floor((tonumber(ARGV[1]) or time[1] * 1000000 + time[2]) / 1000)
local function int(number) return string.format('%.0f', number) end
local worker, since, start, began = unpack(redis.call('HMGET', KEYS[1], 'worker', 'since', 'start', 'began'))
local held = since and now - since
if worker and worker ~= '' and held and held >= 0 and held < tonumber(ARGV[3]) then return -1 end
redis.call('HSET', KEYS[1], 'worker', ARGV[2], 'since', int(now))
start = tonumber(start or 0)
if start == 0 or not began then
  if began and now > tonumber(began) then redis.call('HSET', KEYS[1], 'cycle', int(now - began)) end
  redis.call('HSET', KEYS[1], 'began', int(now))
end
return start
