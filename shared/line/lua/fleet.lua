-- Looks for an interruption in the ingress's pulses: none at all, or one that ended without deregistering in a process
-- older than a heartbeat TTL. The member 'interruption' keeps when the last one was seen.
-- include: basics, clock
-- KEYS     1 the pulses
-- ARGV     1 clock override in us, or '' for the server's TIME   2 the gap from which a pulse is stale, in ms
--          3 heartbeat_ttl in ms
-- Returns  time of the last interruption in ms (0 if none), processes with a recent pulse
-- Complexity O(P) for P processes
local pulses, now, stale_after, heartbeat_ttl = KEYS[1], read_clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local members, alive, interruption, interrupted = call('ZRANGE', pulses, 0, -1, 'WITHSCORES'), 0, 0, false
for i = 1, #members, 2 do
  local process, last = members[i], tonumber(members[i + 1])
  if process == 'interruption' then
    interruption = last
  elseif now - last <= stale_after then
    alive = alive + 1
  else
    local started = tonumber(string.match(process, '^(%d+)-'))
    if not started or last - started > heartbeat_ttl then interrupted = true end
    call('ZREM', pulses, process)
  end
end
if interrupted or alive == 0 then
  interruption = now
  call('ZADD', pulses, int(now), 'interruption')
end
return {int(interruption), alive}
