-- Looks for an interruption in the ingress's pulses: none at all, or one that ended without a goodbye in a process
-- older than a heartbeat life. The member 'interruption' keeps when the last one was seen.
-- KEYS     1 the pulses
-- ARGV     1 clock override in us, or '' for the server's TIME   2 the gap from which a pulse is stale, in ms
--          3 heartbeat_ttl in ms
-- Returns  time of the last interruption in ms (0 if none), processes with a fresh pulse
-- Complexity O(P) for P processes
local time = redis.call('TIME')
local now = math.floor((tonumber(ARGV[1]) or time[1] * 1000000 + time[2]) / 1000)
local stale_after, life = tonumber(ARGV[2]), tonumber(ARGV[3])
local function int(number) return string.format('%.0f', number) end
local pulses, alive, interruption = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), 0, 0
local interrupted = false
for i = 1, #pulses, 2 do
  local process, last = pulses[i], tonumber(pulses[i + 1])
  if process == 'interruption' then
    interruption = last
  elseif now - last <= stale_after then
    alive = alive + 1
  else
    local started = tonumber(string.match(process, '^(%d+)-'))
    if not started or last - started > life then interrupted = true end
    redis.call('ZREM', KEYS[1], process)
  end
end
if interrupted or alive == 0 then
  interruption = now
  redis.call('ZADD', KEYS[1], int(now), 'interruption')
end
return {int(interruption), alive}
