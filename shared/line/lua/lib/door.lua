-- The door and the places in front of it. Needs event.
-- KEYS, ARGV  as event
-- Returns  nothing: it is included, not called
-- Complexity O(log N) a ticket, and at most 64 people examined per call of open_door
local function count_fresh() return call('ZCOUNT', CALLED, '(' .. int(now - CALL_FRESH), int(now)) end
local fresh = count_fresh()

-- When those were called whom attend() found called, in ms; how many calls are stale, once somebody asked.
local called_at, stale_calls = {}, nil

local function in_log(ticket)
  local id = entry_id(ticket)
  return call('XRANGE', LOG, id, id)[1]
end

-- Who was silent when their turn came and speaks again has their own place again, at once.
local function bring_back(tickets)
  if stepped_aside == 0 or #tickets == 0 then return end
  local away, back = call('ZMSCORE', ABSENT, unpack(tickets)), {}
  for i, ticket in ipairs(tickets) do
    if away[i] and call('ZREM', ABSENT, ticket) == 1 then
      back[#back + 1] = ticket
      back[#back + 1] = ticket
    end
  end
  if #back > 0 then
    call('ZADD', LINE, unpack(back))
    lined, stepped_aside = lined + #back / 2, stepped_aside - #back / 2
  end
end

-- Hears these tickets. Returns for each its rank in line, true if called, 'admitted', or false if it is gone;
-- one that is in the log and nowhere else is put back into the line.
local function attend(tickets)
  bring_back(tickets)
  -- int() a ticket would be a seventh of a poll (measured).
  local found, heard, heard_at = {}, {}, int(now)
  for i, ticket in ipairs(tickets) do
    local place = call('ZRANK', LINE, ticket)
    if not place then
      local when = call('ZSCORE', CALLED, ticket)
      if when then
        place = true
        called_at[ticket] = tonumber(when)
      elseif call('ZSCORE', ADMITTED, ticket) then
        place = 'admitted'
      elseif in_log(ticket) then
        call('ZADD', LINE, ticket, ticket)
        place = call('ZRANK', LINE, ticket)
      end
    end
    found[i] = place
    if place and place ~= 'admitted' then
      heard[#heard + 1] = heard_at
      heard[#heard + 1] = ticket
    end
  end
  if #heard > 0 then call('ZADD', HEARTBEAT, unpack(heard)) end
  return found
end

-- Calls people one by one from the head of the line while fresh calls < floor(tokens); the silent step aside,
-- unless the system itself may have caused their silence (grace). Returns how many left the head of the line.
local function open_door(grace)
  if damaged or paused then return 0 end
  local room, examined = floor(tokens) - fresh, 0
  while room > 0 and examined < 64 and lined > 0 do
    local head = call('ZRANGE', LINE, 0, min(8, room, 64 - examined) - 1)
    local seen = call('ZMSCORE', HEARTBEAT, unpack(head))
    local calls, asides, unheard = {}, {}, {}
    for i, ticket in ipairs(head) do
      if not seen[i] then
        unheard[#unheard + 1] = int(now)
        unheard[#unheard + 1] = ticket
      end
      if seen[i] and not grace and now - seen[i] >= READY_TTL then
        asides[#asides + 1] = ticket
        asides[#asides + 1] = ticket
      else
        calls[#calls + 1] = int(now)
        calls[#calls + 1] = ticket
      end
    end
    call('ZREM', LINE, unpack(head))
    if #unheard > 0 then call('ZADD', HEARTBEAT, unpack(unheard)) end
    if #calls > 0 then call('ZADD', CALLED, unpack(calls)) end
    if #asides > 0 then call('ZADD', ABSENT, unpack(asides)) end
    local newly_called = #calls / 2
    room, fresh, called = room - newly_called, fresh + newly_called, called + newly_called
    stepped_aside, lined, examined = stepped_aside + #asides / 2, lined - #head, examined + #head
    tally('stepped_aside', #asides / 2)
  end
  count_head(examined)
  return examined
end

-- The place of someone in line or called, 0 in a damaged line.
local function position(ticket, rank)
  if damaged then return 0 end
  local when = called_at[ticket]
  if not when then
    rank = rank or call('ZRANK', LINE, ticket)
    if rank then return fresh + rank + 1 end
    when = tonumber(call('ZSCORE', CALLED, ticket))
  end
  if not when or when > now or when <= now - CALL_FRESH then return 1 end
  stale_calls = stale_calls or call('ZCOUNT', CALLED, '-inf', int(now - CALL_FRESH))
  return call('ZRANK', CALLED, ticket) - stale_calls + 1
end
