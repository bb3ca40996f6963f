-- Renews the sessions of a batch of passes; the first renewal is the arrival.
-- include: basics, event, keys, openings, pruning, reservation, sessions, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 during door grace, else 0; then four a pass: its ticket, until when it is good and
--          when it was let in, in ms, and 1 if its session is not lengthened after the arrival, else 0
-- Returns  session time in ms, and until when each pass is good in ms, 0 if its session is over
-- Complexity O(log N) a pass
local event, refused = load_event()
if refused then return refused end
local grace = ARGV[STEP] == '1'

local now, held = event.session_now, sessions_are_held(event, grace)
local tickets = {}
for i = STEP + 1, #ARGV, 4 do tickets[#tickets + 1] = ARGV[i] end
local ends, released = call('ZMSCORE', SESSIONS, unpack(tickets)), call('ZMSCORE', ENDED, unpack(tickets))
local results = {}
for i, ticket in ipairs(tickets) do
  local place = STEP + 4 * i - 2
  local pass_until, entered, session_ends = tonumber(ARGV[place]), tonumber(ARGV[place + 1]), tonumber(ends[i] or nil)
  local is_fixed = ARGV[place + 2] == '1'
  local runs = session_ends and (session_ends > now or held)
  -- A session that was lost: the pass itself says that it has not ended.
  local was_lost = not session_ends and pass_until + SESSION_SLACK > now
  local good_until = within_session_limit(event, entered, now + event.session_ttl)
  if is_fixed and not is_awaited(ticket) then good_until = max(pass_until, (session_ends or 0) - SESSION_SLACK) end
  if released[i] or not (runs or was_lost) or good_until <= now then
    results[i] = '0'
  else
    lengthen_session(event, ticket, max(good_until, pass_until), true)
    note_arrival(ticket)
    results[i] = int(good_until)
  end
end
save_state(event)
return {int(now), results}
