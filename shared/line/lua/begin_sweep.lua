-- Takes the lease of the sweep, so that one worker sweeps at a time.
-- KEYS     1 the sweep
-- ARGV     1 clock override in us, or '' for the server's TIME   2 the worker   3 the lease in ms
-- Returns  the event after which to begin ('' for the first), or nothing while another worker holds the lease
-- Complexity O(1)
local time = redis.call('TIME')
local now = math.floor((tonumber(ARGV[1]) or time[1] * 1000000 + time[2]) / 1000)
local worker, since, after = unpack(redis.call('HMGET', KEYS[1], 'worker', 'since', 'after'))
local held = since and now - since
if worker and worker ~= '' and held and held >= 0 and held < tonumber(ARGV[3]) then return false end
redis.call('HSET', KEYS[1], 'worker', ARGV[2], 'since', string.format('%.0f', now))
return after or ''
