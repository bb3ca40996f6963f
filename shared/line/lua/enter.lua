-- Lets in whoever of a batch of tickets is called and has an opening: one ticket, one reservation, however often asked.
-- include: basics, codes, depart, door, event, keys, log, openings, reservation, sessions, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 during door grace, else 0; then the tickets
-- Returns  standing, and two a ticket: code (EnterCode), then when granted the time of issue, the rest of the
--          reservation's TTL, the time of the first grant and until when the pass is good, in ms with blanks between,
--          else the position
-- Complexity O(log N) a ticket
local event, refused = load_event()
if refused then return refused end
local grace, tickets = ARGV[STEP] == '1', {unpack(ARGV, STEP + 1)}

local door = load_door(event)
local locations = touch_and_locate(event, door, tickets)
open_door(event, door, grace)

local now, session_now, pass_ttl, called_at = event.now, event.session_now, event.pass_ttl, door.called_at
local results = {}
local function answer(code, value)
  results[#results + 1] = code
  results[#results + 1] = value
end
local function times(issued, entered, good_until)
  return format('%.0f %.0f %.0f %.0f', issued, good_until - session_now, entered, good_until)
end

-- Those who are let in for the first time: one answer for all, and one write at the end.
local let_in, let_in_who, is_let_in = {}, {}, {}
local first_until = within_session_limit(event, session_now, session_now + pass_ttl)
local first_times = times(session_now, session_now, first_until)

-- Whether the system itself may have kept people from coming: this ingress knows of a gap, a sweep has found one, or
-- the next one will. A third of a heartbeat TTL without a sweep is a gap however many events there are (expiry.py).
local function is_in_grace()
  read_state(event, 'swept', 'grace')
  local swept, grace_until = event.state.swept, event.state.grace or 0
  return grace or grace_until > now or not swept or now - swept > event.heartbeat_ttl / 3
end

-- A reservation already given: the same one again until it lapses. After that a new one, for a reply or a redeem that
-- was lost: until they have arrived, or a heartbeat TTL after the first grant and in grace. Their token is spent, but if
-- somebody else has their slot by now they need another.
local function grant_again(ticket)
  local first = tonumber(call('ZSCORE', ADMITTED, ticket))
  local issued, redeemed, _, who, has_arrived = read_reservation(ticket)
  local has_lapsed = issued and session_now - issued >= pass_ttl
  if redeemed or has_arrived and has_lapsed then return answer(ENTER_ALREADY_REDEEMED, 0) end
  if not issued then return answer(ENTER_GONE, 0) end
  if has_lapsed then
    if now - first > event.heartbeat_ttl and not is_in_grace() then return answer(ENTER_GONE, 0) end
    issued = session_now
  end
  -- The clock may have jumped back, and what kept session time from following it may be lost.
  local good_until = within_session_limit(event, first, min(issued, session_now) + pass_ttl)
  if good_until <= session_now then return answer(ENTER_GONE, 0) end
  if not keep_session(event, ticket, good_until, not has_lapsed) then return answer(ENTER_NOT_READY, 1) end
  if has_lapsed then issue_reservation(ticket, issued, who) end
  answer(ENTER_GRANTED, times(issued, first, good_until))
end

local function grant(ticket, when_called)
  local _, who = depart(event, ticket)
  if when_called <= now and when_called > now - event.call_fresh then door.fresh_calls = door.fresh_calls - 1 end
  door.stale_calls = nil
  take_tokens(event, 1)
  if event.max_active then event.inside = event.inside + 1 end
  let_in[#let_in + 1], let_in_who[#let_in_who + 1], is_let_in[ticket] = ticket, who, true
  answer(ENTER_GRANTED, first_times)
end

for i, ticket in ipairs(tickets) do
  local location, when = locations[i], called_at[ticket]
  -- The door may have called them just now.
  if not when and location and location ~= 'admitted' then when = tonumber(call('ZSCORE', CALLED, ticket)) end
  -- A ticket may be twice in one batch.
  if is_let_in[ticket] then
    answer(ENTER_GRANTED, first_times)
  elseif location == 'admitted' then
    grant_again(ticket)
  elseif not location then
    answer(ENTER_GONE, 0)
  elseif event.paused then
    answer(ENTER_PAUSED, position(event, door, ticket))
  elseif event.damaged or openings(event) < 1 or not when then
    answer(ENTER_NOT_READY, position(event, door, ticket))
  elseif not find_entry(ticket) then
    -- Losses whose counts agree by chance. Whoever is a member stays one; the walk that is asked for shows the rest.
    event.damaged = true
    set_state(event, 'recount', 1)
    answer(ENTER_NOT_READY, 0)
  else
    grant(ticket, when)
  end
end
if #let_in > 0 then
  if event.max_active then event.inside = event.inside - #let_in end
  admit(event, let_in, let_in_who, first_until)
end
save_state(event)
add_to_total('admitted', #let_in)
return {standing(event), results}
