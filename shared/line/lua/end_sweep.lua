-- Gives the lease of the sweep back, and says where the next one begins.
-- include: basics
-- KEYS     1 the sweep
-- ARGV     1 the worker   2 the event after which to begin, '' for the first
-- Returns  1 if the lease was still this worker's
-- Complexity O(1)
local sweep, worker, after = KEYS[1], ARGV[1], ARGV[2]

if call('HGET', sweep, 'worker') ~= worker then return 0 end
call('HSET', sweep, 'worker', '', 'after', after)
return 1
