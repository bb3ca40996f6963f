-- The door and the places in front of it.
-- include: abandonment, basics, keys, log, openings, pruning, speed, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N) a ticket, and at most 64 people examined per call of open_door

-- fresh_calls and stale_calls count the called (the latter once somebody asked). Of those whom touch_and_locate found
-- called, called_at has the times of their calls in ms, and hesitant lists those who have asked since then already.
local function load_door(event)
  local fresh_calls = call('ZCOUNT', CALLED, '(' .. int(event.now - event.call_fresh), int(event.now))
  return {fresh_calls = fresh_calls, stale_calls = nil, called_at = {}, hesitant = nil}
end

-- Whoever stepped aside and speaks again has their own place again, at once.
local function restore_absent(event, tickets)
  if event.absent == 0 or #tickets == 0 then return end
  local absent_since, restored = call('ZMSCORE', ABSENT, unpack(tickets)), {}
  for i, ticket in ipairs(tickets) do
    -- A ticket may be twice in one batch.
    if absent_since[i] and call('ZREM', ABSENT, ticket) == 1 then
      restored[#restored + 1] = ticket
      restored[#restored + 1] = ticket
    end
  end
  if #restored > 0 then
    call('ZADD', LINE, unpack(restored))
    event.waiting, event.absent = event.waiting + #restored / 2, event.absent - #restored / 2
  end
end

-- Writes the heartbeats of these tickets. Returns where each is: its rank in line, 'called', 'admitted', or false if
-- it is gone. A ticket that is in the log and nowhere else is put back into the line.
local function touch_and_locate(event, door, tickets)
  restore_absent(event, tickets)
  -- The tickets stay the strings they came as: int() would be a seventh of a poll (measured).
  local locations, heartbeats, now, called_at, put_back = {}, {}, int(event.now), door.called_at, 0
  for i, ticket in ipairs(tickets) do
    local location = call('ZRANK', LINE, ticket)
    if not location then
      local when = call('ZSCORE', CALLED, ticket)
      if when then
        location = 'called'
        called_at[ticket] = tonumber(when)
        local last_seen = tonumber(call('ZSCORE', HEARTBEAT, ticket))
        if last_seen and last_seen > called_at[ticket] then
          door.hesitant = door.hesitant or {}
          door.hesitant[#door.hesitant + 1] = ticket
        end
      elseif call('ZSCORE', ADMITTED, ticket) then
        location = 'admitted'
      elseif find_entry(ticket) then
        call('ZADD', LINE, ticket, ticket)
        put_back = put_back + 1
        location = call('ZRANK', LINE, ticket)
      end
    end
    locations[i] = location
    if location and location ~= 'admitted' then
      heartbeats[#heartbeats + 1] = now
      heartbeats[#heartbeats + 1] = ticket
    end
  end
  if #heartbeats > 0 then call('ZADD', HEARTBEAT, unpack(heartbeats)) end
  if put_back > 0 then
    -- Somebody in front of those looked up before may have been put back.
    event.waiting = event.waiting + put_back
    for i, ticket in ipairs(tickets) do
      if type(locations[i]) == 'number' then locations[i] = call('ZRANK', LINE, ticket) end
    end
  end
  return locations
end

-- How long after a call another poll shows that its holder does not enter, in ms. People near the front are told to poll
-- every 2 s; whoever polls faster has hardly had the time.
local HESITATION = 1500

-- The calls of those who ask again instead of entering are fresh no longer: as if made call_fresh ago, which is a little
-- earlier than they were. They keep the right to enter.
local function release_hesitant(event, door)
  -- Without an opening they could not enter.
  if not door.hesitant or openings(event) < 1 then return end
  local oldest_fresh = event.now - event.call_fresh
  for _, ticket in ipairs(door.hesitant) do
    local when = door.called_at[ticket]
    if when > oldest_fresh and when <= event.now - HESITATION then
      call('ZADD', CALLED, int(oldest_fresh), ticket)
      door.called_at[ticket] = oldest_fresh
      door.fresh_calls = door.fresh_calls - 1
    end
  end
end

-- Calls people one by one from the head of the line while fresh calls < floor(openings). The silent step aside,
-- unless the system itself may have caused their silence (grace). Returns how many left the head of the line.
local function open_door(event, door, grace)
  if event.damaged or event.paused then return 0 end
  local now, ready_ttl = event.now, event.ready_ttl
  if event.max_active then
    prune_sessions(event, sessions_are_held(event, grace))
    local shut = event.state.shut or 0
    if event.state.last and free_slots(event) < 1 and (now - shut >= 1000 or shut > now) then
      -- The right to come in does not run out now, as in an event that is paused (reap.lua).
      set_state(event, 'shut', now)
    end
  end
  local room, examined, called = floor(openings(event)) - door.fresh_calls, 0, 0
  while room > 0 and examined < 64 and event.waiting > 0 do
    local head = call('ZRANGE', LINE, 0, min(8, room, 64 - examined) - 1)
    local seen = call('ZMSCORE', HEARTBEAT, unpack(head))
    local calls, absences, first_heartbeats = {}, {}, {}
    for i, ticket in ipairs(head) do
      if not seen[i] then
        first_heartbeats[#first_heartbeats + 1] = int(now)
        first_heartbeats[#first_heartbeats + 1] = ticket
      end
      if seen[i] and not grace and now - seen[i] >= ready_ttl then
        absences[#absences + 1] = ticket
        absences[#absences + 1] = ticket
      else
        calls[#calls + 1] = int(now)
        calls[#calls + 1] = ticket
      end
    end
    call('ZREM', LINE, unpack(head))
    if #first_heartbeats > 0 then call('ZADD', HEARTBEAT, unpack(first_heartbeats)) end
    if #calls > 0 then call('ZADD', CALLED, unpack(calls)) end
    if #absences > 0 then call('ZADD', ABSENT, unpack(absences)) end
    local newly_called, newly_absent = #calls / 2, #absences / 2
    room, examined, called = room - newly_called, examined + #head, called + newly_called
    door.fresh_calls, event.called = door.fresh_calls + newly_called, event.called + newly_called
    event.absent, event.waiting = event.absent + newly_absent, event.waiting - #head
    add_to_total('stepped_aside', newly_absent)
  end
  if examined > 0 then
    count_head_departures(event, examined)
    count_turns(event, called, examined - called)
    count_abandoned(event, {})
  end
  return examined
end

-- The position of someone in line or called; 0 in a damaged line.
local function position(event, door, ticket)
  if event.damaged then return 0 end
  local when = door.called_at[ticket]
  if not when then
    local rank = call('ZRANK', LINE, ticket)
    if rank then return door.fresh_calls + rank + 1 end
    when = tonumber(call('ZSCORE', CALLED, ticket))
  end
  local oldest_fresh = event.now - event.call_fresh
  if not when or when > event.now or when <= oldest_fresh then return 1 end
  door.stale_calls = door.stale_calls or call('ZCOUNT', CALLED, '-inf', int(oldest_fresh))
  return call('ZRANK', CALLED, ticket) - door.stale_calls + 1
end
