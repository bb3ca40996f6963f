-- Lets in whoever of a batch of tickets is called and has a token: one ticket, one reservation, however often asked.
-- include: basics, codes, depart, door, event, keys, log, reservation, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 during door grace, else 0; then the tickets
-- Returns  standing, and three a ticket: code (EnterCode), then when granted the time of issue and the rest of the
--          reservation's TTL in ms, else position and 0
-- Complexity O(log N) a ticket
local event, refused = load_event()
if refused then return refused end
local grace, tickets = ARGV[STEP] == '1', {unpack(ARGV, STEP + 1)}

local door = load_door(event)
local locations = touch_and_locate(event, door, tickets)
open_door(event, door, grace)

local now, pass_ttl, called_at = event.now, event.pass_ttl, door.called_at
local granted, results = 0, {}
local function answer(code, a, b)
  results[#results + 1] = code
  results[#results + 1] = a
  results[#results + 1] = b
end

-- Whether the system itself may have kept people from coming: this ingress knows of a gap, a sweep has found one, or
-- the next one will. A third of a heartbeat TTL without a sweep is a gap however many events there are (expiry.py).
local function is_in_grace()
  read_state(event, 'swept', 'grace')
  local swept, grace_until = event.state.swept, event.state.grace or 0
  return grace or grace_until > now or not swept or now - swept > event.heartbeat_ttl / 3
end

-- A reservation already given: the same one again until it lapses. After that a new one, for a reply or a redeem that
-- was lost: until a heartbeat TTL after the first grant, and in grace.
local function grant_again(ticket)
  local first = tonumber(call('ZSCORE', ADMITTED, ticket))
  local issued, redeemed, _, who = read_reservation(ticket)
  if redeemed then return answer(ENTER_ALREADY_REDEEMED, 0, 0) end
  if not issued then return answer(ENTER_GONE, 0, 0) end
  local left = pass_ttl - max(0, now - issued)
  if left <= 0 then
    if now - first > event.heartbeat_ttl and not is_in_grace() then return answer(ENTER_GONE, 0, 0) end
    issued, left = now, pass_ttl
    issue_reservation(ticket, issued, who)
  end
  answer(ENTER_GRANTED, int(issued), int(left))
end

local function grant(ticket, when_called)
  local _, who = depart(event, ticket)
  if when_called <= now and when_called > now - event.call_fresh then door.fresh_calls = door.fresh_calls - 1 end
  door.stale_calls = nil
  take_tokens(event, 1)
  call('ZADD', ADMITTED, int(now), ticket)
  issue_reservation(ticket, now, who)
  granted = granted + 1
  answer(ENTER_GRANTED, int(now), int(pass_ttl))
end

local let_in = {}
for i, ticket in ipairs(tickets) do
  local location, when = locations[i], called_at[ticket]
  -- The door may have called them just now.
  if not when and location and location ~= 'admitted' then when = tonumber(call('ZSCORE', CALLED, ticket)) end
  -- A ticket may be twice in one batch.
  if location == 'admitted' or let_in[ticket] then
    grant_again(ticket)
  elseif not location then
    answer(ENTER_GONE, 0, 0)
  elseif event.paused then
    answer(ENTER_PAUSED, position(event, door, ticket), 0)
  elseif event.damaged or event.tokens < 1 or not when then
    answer(ENTER_NOT_READY, position(event, door, ticket), 0)
  elseif not find_entry(ticket) then
    -- Losses whose counts agree by chance. Whoever is a member stays one; the walk that is asked for shows the rest.
    event.damaged = true
    set_state(event, 'recount', 1)
    answer(ENTER_NOT_READY, 0, 0)
  else
    grant(ticket, when)
    let_in[ticket] = true
  end
end
save_state(event)
add_to_total('admitted', granted)
return {standing(event), results}
