-- Sessions: every admitted ticket has one until its end, in session time, which is the time on Redis's clock but never
-- goes back.
-- include: basics, insiders, keys, openings, pruning, release, reservation, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N) a ticket

-- A time, at most the one at which a session begun at `entered` ends whatever happens.
local function within_session_limit(event, entered, time)
  return event.session_limit and min(time, entered + event.session_limit) or time
end

-- Makes a ticket's pass good until a time in ms. is_known: whether `active` counts it, if it has no session yet.
local function lengthen_session(event, ticket, good_until, is_known)
  local ends = good_until + SESSION_SLACK
  local added = call('ZADD', SESSIONS, 'GT', int(ends), ticket)
  if added == 1 then count_sessions(event, 1, is_known) end
  if added == 1 and is_known and event.sessions_lost then
    -- Its holder may have a pass that is good for longer, given before it was lost.
    ends = max(ends, event.state.sessions_lost)
    call('ZADD', SESSIONS, int(ends), ticket)
  end
  if ends > (event.state.session_latest or 0) then set_state(event, 'session_latest', ends) end
  set_state(event, 'session_clock', event.session_now)
end

-- The same for one who was admitted before and may have lost their slot since. Returns false if so, and none is free.
-- runs: whether their reservation does. If there is no session for it, that is one of those that were lost.
local function keep_session(event, ticket, good_until, runs)
  load_sessions(event)
  local ends = call('ZSCORE', SESSIONS, ticket)
  if ends and tonumber(ends) >= good_until + SESSION_SLACK then return true end
  local was_lost = not ends and runs and event.sessions_lost
  if not (ends or was_lost or not event.max_active or free_slots(event) >= 1) then return false end
  lengthen_session(event, ticket, good_until, was_lost)
  return true
end

-- Lets tickets in for the first time, each for who holds it (in the same order), until a time in ms. A verified user's
-- older session is released.
local function admit(event, tickets, who, good_until)
  load_sessions(event)
  local now, ends = int(event.session_now), int(good_until + SESSION_SLACK)
  local admitted, passes, sessions = {}, {}, {}
  for i, ticket in ipairs(tickets) do
    admitted[2 * i - 1], admitted[2 * i] = now, ticket
    passes[2 * i - 1], passes[2 * i] = ticket, now .. ' 0 ' .. who[i]
    sessions[2 * i - 1], sessions[2 * i] = ends, ticket
  end
  call('ZADD', ADMITTED, unpack(admitted))
  call('HSET', PASSES, unpack(passes))
  count_sessions(event, call('ZADD', SESSIONS, unpack(sessions)), false)
  set_state(event, 'session_latest', max(good_until + SESSION_SLACK, event.state.session_latest or 0))
  set_state(event, 'session_clock', event.session_now)
  for i, ticket in ipairs(tickets) do
    local earlier = string.sub(who[i], 1, 1) == 'v' and note_insider(ticket, who[i])
    if earlier then
      release_session(event, earlier)
      cancel_reservation(earlier)
    end
  end
end
