-- Lets in whoever of a batch of tickets is called and has a token: one ticket, one reservation, however often asked.
-- include: event, door, depart
-- KEYS     as event
-- ARGV     as event, then STEP 1 during door grace, else 0; then the tickets
-- Returns  standing, and three a ticket: code (0 gone, 1 not ready, 2 granted, 3 already redeemed, 4 paused),
--          then when granted the time of issue and the rest of its life in ms, else position and 0
-- Complexity O(log N) a ticket
local tickets = {unpack(ARGV, STEP + 1)}
local found = attend(tickets)
open_door(ARGV[STEP] == '1')

local granted, results = 0, {}
local function answer(code, a, b)
  results[#results + 1] = code
  results[#results + 1] = a
  results[#results + 1] = b
end

-- A reservation already given: the same one again while it lives, a new one for a lost reply after that.
local function again(ticket)
  local first = tonumber(call('ZSCORE', ADMITTED, ticket))
  local issued, redeemed, _, who = pass_of(ticket)
  if redeemed then return answer(3, 0, 0) end
  if not issued then return answer(0, 0, 0) end
  local left = pass_ttl - max(0, now - issued)
  if left <= 0 then
    if now - first > HEARTBEAT_TTL then return answer(0, 0, 0) end
    issued, left = now, pass_ttl
    call('HSET', PASSES, ticket, int(now) .. ' 0 ' .. who)
  end
  answer(2, int(issued), int(left))
end

local let_in = {}
for i, ticket in ipairs(tickets) do
  local when = called_at[ticket]
  if not when and found[i] and found[i] ~= 'admitted' then when = tonumber(call('ZSCORE', CALLED, ticket)) end
  -- A ticket may be twice in one batch.
  if found[i] == 'admitted' or let_in[ticket] then
    again(ticket)
  elseif not found[i] then
    answer(0, 0, 0)
  elseif paused then
    answer(4, position(ticket), 0)
  elseif damaged or tokens < 1 or not when then
    answer(1, position(ticket), 0)
  elseif not in_log(ticket) then
    -- Losses whose counts agree by chance. Whoever is a member stays one; the walk that is asked for shows the rest.
    damaged = true
    set('recount', 1)
    answer(1, 0, 0)
  else
    local _, who = depart(ticket)
    if when <= now and when > now - CALL_FRESH then fresh = fresh - 1 end
    let_in[ticket], stale_calls = true, nil
    spend(1)
    call('ZADD', ADMITTED, int(now), ticket)
    call('HSET', PASSES, ticket, int(now) .. ' 0 ' .. who)
    granted = granted + 1
    answer(2, int(now), int(pass_ttl))
  end
end
save()
tally('admitted', granted)
return {standing(), results}
