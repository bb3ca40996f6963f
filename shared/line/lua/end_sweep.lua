-- Gives the lease of the sweep back, and says where the next one begins.
-- KEYS     1 the sweep
-- ARGV     1 the worker   2 the event after which to begin, '' for the first
-- Returns  1 if the lease was still this worker's
-- Complexity O(1)
if redis.call('HGET', KEYS[1], 'worker') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'worker', '', 'after', ARGV[2])
return 1
