-- One ingress process says that it is alive.
-- KEYS     1 the pulses
-- ARGV     1 clock override in us, or '' for the server's TIME   2 the process: time of its start in ms or '', '-', id
--          3 how long a pulse is fresh, in ms
-- Returns  now in ms, its last pulse in ms (0 if none), 1 if any process had a fresh one, the process's full name
-- Complexity O(log P + fresh processes)
local time = redis.call('TIME')
local now = math.floor((tonumber(ARGV[1]) or time[1] * 1000000 + time[2]) / 1000)
local function int(number) return string.format('%.0f', number) end
local process = ARGV[2]
-- It starts on the server's clock, as everything does.
if string.sub(process, 1, 1) == '-' then process = int(now) .. process end
local last = redis.call('ZSCORE', KEYS[1], process)
local fresh = redis.call('ZRANGEBYSCORE', KEYS[1], int(now - ARGV[3]), int(now + ARGV[3]))
local accompanied = 0
for _, other in ipairs(fresh) do
  if other ~= 'interruption' then accompanied = 1 end
end
redis.call('ZADD', KEYS[1], int(now), process)
return {int(now), last and int(tonumber(last)) or '0', accompanied, process}
