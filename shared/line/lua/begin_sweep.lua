-- Takes the lease of the sweep, so that one worker sweeps at a time.
-- include: basics, clock
-- KEYS     1 the sweep
-- ARGV     1 clock override in us, or '' for the server's TIME   2 the worker   3 the lease in ms
-- Returns  the event after which to begin ('' for the first), or nothing while another worker holds the lease
-- Complexity O(1)
local sweep, now, worker, lease = KEYS[1], read_clock(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local holder, since, after = unpack(call('HMGET', sweep, 'worker', 'since', 'after'))
local held = since and now - since
if holder and holder ~= '' and held and held >= 0 and held < lease then return false end
call('HSET', sweep, 'worker', worker, 'since', int(now))
return after or ''
