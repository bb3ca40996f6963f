-- One ingress process says that it is alive.
-- include: basics, clock
-- KEYS     1 the pulses
-- ARGV     1 clock override in us, or '' for the server's TIME   2 the process: time of its start in ms or '', '-', id
--          3 how long a pulse is recent, in ms
-- Returns  now in ms, its last pulse in ms (0 if none), 1 if any process had a recent one, the process's full name
-- Complexity O(log P + processes with a recent pulse)
local pulses, now, process, window = KEYS[1], read_clock(ARGV[1]), ARGV[2], tonumber(ARGV[3])

-- It starts on the server's clock, as everything does.
if string.sub(process, 1, 1) == '-' then process = int(now) .. process end
local last = call('ZSCORE', pulses, process)
local accompanied = 0
for _, member in ipairs(call('ZRANGEBYSCORE', pulses, int(now - window), int(now + window))) do
  if member ~= 'interruption' then accompanied = 1 end
end
call('ZADD', pulses, int(now), process)
return {int(now), last and int(tonumber(last)) or '0', accompanied, process}
