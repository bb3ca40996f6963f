-- The sweep's visit to an event: grace after an interruption, the door, expiry of the silent and of calls nobody
-- took up, and the end of what nobody needs any more. Bounded: call again while it says there is more.
-- include: abandonment, basics, depart, door, event, keys, openings, pruning, release, reservation, speed, state
-- KEYS     as keys
-- ARGV     as event, then STEP time of the fleet's last interruption in ms (0 for none), gap in ms from which
--          missing sweeps are an interruption, and the most people to expire
-- Returns  1 if there is more to do, people expired, 1 if the event was unlinked, 1 in grace, standing
-- Complexity O(log N) a departure
local event, refused = load_event()
if refused then return refused end
local interrupted, longest_gap, limit = tonumber(ARGV[STEP]), tonumber(ARGV[STEP + 1]), tonumber(ARGV[STEP + 2])

local now, state, heartbeat_ttl = event.now, event.state, event.heartbeat_ttl
read_state(event, 'swept', 'grace', 'busy', 'shut')
-- While nobody can come in the right to come in does not run out, and afterwards there is time to use it. The clock
-- may have jumped back meanwhile.
if event.paused or event.damaged or event.rate == 0 or (state.shut or 0) > now
    or event.max_active and free_slots(event) < 1 then
  set_state(event, 'shut', now)
end
local long_open = not state.shut or now - state.shut >= event.ready_ttl

local declared = call('EXISTS', CONFIG) == 1
-- No gate asks for passes of an undeclared event, so its released ones need not be remembered.
local empty = event.logged == 0 and event.members == 0 and call('EXISTS', ADMITTED, SESSIONS) == 0
  and not (declared and call('EXISTS', ENDED) == 1)
if empty then
  local quiet_since = max(floor((state.last or 0) / 1000), state.busy or 0)
  if declared and quiet_since == 0 then
    -- Nobody has joined yet: its time begins when the sweep first sees it.
    set_state(event, 'busy', now)
    save_state(event)
    return {0, 0, 0, 0, standing(event)}
  end
  -- A new event begins with a full bucket, so this one has to end with one.
  if event.tokens >= event.capacity and now - quiet_since >= (declared and event.line_ttl or heartbeat_ttl) then
    call('UNLINK', LOG, REBUILD, LINE, ABSENT, CALLED, HEARTBEAT, PLACES, DEDUPE_NEW, DEDUPE_OLD, ADMITTED, PASSES,
      STATE, INDEX, SESSIONS, ENDED, INSIDERS)
    return {0, 0, 1, 0, standing(event)}
  end
else
  set_state(event, 'busy', now)
end

local grace = min(state.grace or 0, now + heartbeat_ttl)
if not state.swept or now - state.swept > longest_gap then grace = now + heartbeat_ttl end
set_state(event, 'grace', max(grace, min(interrupted, now) + heartbeat_ttl))
set_state(event, 'swept', now)
local in_grace = state.grace > now

-- What a clock that ran ahead wrote counts as a heartbeat, or a call, of now.
for _, key in ipairs({HEARTBEAT, CALLED}) do
  local ahead = call('ZRANGEBYSCORE', key, '(' .. int(now + 1000), '+inf', 'LIMIT', 0, limit)
  for _, ticket in ipairs(ahead) do call('ZADD', key, int(now), ticket) end
end
local expired, more = 0, false
local function expire(key, oldest)
  local most, abandoned = limit - expired, {}
  local silent = call('ZRANGEBYSCORE', key, '-inf', int(oldest), 'LIMIT', 0, most)
  for _, ticket in ipairs(silent) do
    local had_place, _, in_line = depart(event, ticket)
    if in_line == 1 then abandoned[#abandoned + 1] = ticket end
    if had_place then expired = expired + 1 end
  end
  count_head_departures(event, #abandoned)
  count_abandoned(event, abandoned)
  more = more or #silent == most
end

more = prune_sessions(event, in_grace or sessions_are_held(event, false)) == SESSIONS_PRUNED
more = prune_ended(event) == SESSIONS_PRUNED or more

if not in_grace then open_door(event, load_door(event), false) end
if not event.damaged and not in_grace then
  expire(HEARTBEAT, now - heartbeat_ttl)
  if long_open and openings(event) >= 1 and expired < limit then expire(CALLED, now - heartbeat_ttl) end
end

-- In grace whoever was let in may still ask for their reservation (enter.lua), and what was issued late lasts its time.
if not in_grace then
  local oldest, done = now - heartbeat_ttl - event.pass_ttl, {}
  for _, ticket in ipairs(call('ZRANGEBYSCORE', ADMITTED, '-inf', int(oldest), 'LIMIT', 0, limit)) do
    local issued, redeemed = read_reservation(ticket)
    if redeemed or not issued or now - issued >= event.pass_ttl then done[#done + 1] = ticket end
  end
  if #done > 0 then
    call('ZREM', ADMITTED, unpack(done))
    call('HDEL', PASSES, unpack(done))
    more = more or #done == limit
  end
end
save_state(event)
add_to_total('expired', expired)
return {more and 1 or 0, expired, 0, in_grace and 1 or 0, standing(event)}
