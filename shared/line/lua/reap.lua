-- The sweep's visit to an event: grace after an interruption, the door, expiry of the silent and of calls nobody
-- took up, and the end of what nobody needs any more. Bounded: call again while it says there is more.
-- include: event, door, depart
-- KEYS     as event
-- ARGV     as event, then STEP time of the fleet's last interruption in ms (0 for none), gap in ms from which
--          missing sweeps are an interruption, and the most people to expire
-- Returns  1 if there is more to do, people expired, 1 if the event was unlinked, 1 in grace, standing
-- Complexity O(log N) a departure
local interrupted, longest_gap, limit = tonumber(ARGV[STEP]), tonumber(ARGV[STEP + 1]), tonumber(ARGV[STEP + 2])
read('swept', 'grace', 'busy', 'shut')
-- While nobody can come in the right to come in does not run out, and afterwards there is time to use it. The clock
-- may have jumped back meanwhile.
if paused or damaged or rate == 0 or (state.shut or 0) > now then set('shut', now) end
local long_open = not state.shut or now - state.shut >= READY_TTL

local declared = call('EXISTS', CONFIG) == 1
local empty = logged == 0 and members == 0 and call('EXISTS', ADMITTED) == 0
if empty then
  local quiet_since = max(floor((state.last or 0) / 1000), state.busy or 0)
  if declared and quiet_since == 0 then
    -- Nobody has joined yet: its time begins when the sweep first sees it.
    set('busy', now)
    save()
    return {0, 0, 0, 0, standing()}
  end
  -- Its next life begins with a full bucket, so this one has to end with one.
  if tokens >= capacity and now - quiet_since >= (declared and LINE_TTL or HEARTBEAT_TTL) then
    call('UNLINK', LOG, REBUILD, LINE, ABSENT, CALLED, HEARTBEAT, PLACES, DEDUPE_NEW, DEDUPE_OLD, ADMITTED, PASSES,
      STATE, INDEX)
    return {0, 0, 1, 0, standing()}
  end
else
  set('busy', now)
end

local grace = min(state.grace or 0, now + HEARTBEAT_TTL)
if not state.swept or now - state.swept > longest_gap then grace = now + HEARTBEAT_TTL end
set('grace', max(grace, min(interrupted, now) + HEARTBEAT_TTL))
set('swept', now)
local in_grace = state.grace > now

-- What a clock that ran ahead wrote counts as heard, or called, now.
for _, key in ipairs({HEARTBEAT, CALLED}) do
  local ahead = call('ZRANGEBYSCORE', key, '(' .. int(now + 1000), '+inf', 'LIMIT', 0, limit)
  for _, ticket in ipairs(ahead) do call('ZADD', key, int(now), ticket) end
end
fresh = count_fresh()

local expired, more = 0, false
local function expire(key, oldest)
  local most, from_line = limit - expired, 0
  local silent = call('ZRANGEBYSCORE', key, '-inf', int(oldest), 'LIMIT', 0, most)
  for _, ticket in ipairs(silent) do
    local was_logged, _, in_line = depart(ticket)
    from_line = from_line + in_line
    if was_logged then expired = expired + 1 end
  end
  lined = lined - from_line
  count_head(from_line)
  more = more or #silent == most
end

if not in_grace then open_door(false) end
if not damaged and not in_grace then
  expire(HEARTBEAT, now - HEARTBEAT_TTL)
  if long_open and tokens >= 1 and expired < limit then expire(CALLED, now - HEARTBEAT_TTL) end
end

local done = call('ZRANGEBYSCORE', ADMITTED, '-inf', int(now - HEARTBEAT_TTL - pass_ttl), 'LIMIT', 0, limit)
if #done > 0 then
  call('ZREM', ADMITTED, unpack(done))
  call('HDEL', PASSES, unpack(done))
  more = more or #done == limit
end
save()
tally('expired', expired)
return {more and 1 or 0, expired, 0, in_grace and 1 or 0, standing()}
