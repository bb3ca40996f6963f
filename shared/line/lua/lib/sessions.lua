-- Sessions: who is inside. Every admitted ticket has one until its end, in session time, which is the time on Redis's
-- clock but never goes back. A slot is free again when its session is taken out, and only then. The state's `active`
-- counts what is put in and taken out: where it differs from the key's own count, sessions were lost, and under a cap
-- nobody is let in until all of those have ended, or their renewals have put them back.
-- include: basics, keys, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N) a ticket, and at most 100 sessions pruned a call of prune_sessions

-- How much later than its pass a session ends: a process whose clock is off by less honours no pass without a slot.
local SESSION_SLACK = 2000
-- How long it takes until every process has heard of a release.
local RELEASE_DELAY = 3000
local SESSIONS_PRUNED = 100
-- `active` once the state was lost: it equals no count.
local ACTIVE_UNKNOWN = -1000000000

-- Reads how many are inside, and whether some were lost: then `present` counts those that are left or put back, so that
-- a second loss shows, too. Changes nothing of the keys themselves.
local function load_sessions(event)
  if event.inside then return end
  read_state(event, 'active', 'present', 'session_latest', 'sessions_lost', 'session_hold', 'shut')
  local state, inside, now = event.state, call('ZCARD', SESSIONS), event.session_now
  event.inside = inside
  local active = state.active or (inside == 0 and 0 or ACTIVE_UNKNOWN)
  local lost_until = state.sessions_lost or 0
  local change = lost_until ~= 0 and inside - state.present or 0
  local loss = lost_until == 0 and inside ~= active or change < 0 or change > 0 and inside ~= active
  if loss then
    lost_until = max(lost_until, state.session_latest or now + max(event.session_ttl, event.pass_ttl) + SESSION_SLACK)
    set_state(event, 'active', active)
    set_state(event, 'present', inside)
    set_state(event, 'sessions_lost', lost_until)
  end
  if lost_until ~= 0 and (active == inside and not loss or lost_until <= now) then
    lost_until = 0
    set_state(event, 'active', inside)
    set_state(event, 'sessions_lost', 0)
    set_state(event, 'session_clock', now)
  end
  event.sessions_lost = lost_until ~= 0
end

-- Notes that sessions were put in or taken out. is_known: `active` counts them already, for they were lost.
local function count_sessions(event, change, is_known)
  local state = event.state
  event.inside = event.inside + change
  if not is_known then set_state(event, 'active', (state.active or 0) + change) end
  if event.sessions_lost then set_state(event, 'present', state.present + change) end
end

-- How many more the cap lets in; below 0 if it was lowered.
local function free_slots(event)
  local free = event.max_active - event.inside
  return event.sessions_lost and min(free, 0) or free
end

-- How many may be let in now: tokens of the bucket, or slots where those are fewer.
local function openings(event)
  if not event.max_active then return event.tokens end
  return min(event.tokens, free_slots(event))
end

-- What a rate in people/s comes to for the last in line: the free slots are filled at that rate, then people come in
-- only as fast as sessions end.
local function rate_under_cap(event, rate)
  local people = event.waiting + event.called
  if not event.max_active or rate <= 0 or people == 0 then return rate end
  local free, ending = max(0, free_slots(event)), event.max_active * 1000 / event.session_ttl
  if people <= free or ending >= rate then return rate end
  return people / (free / rate + (people - free) / ending)
end

-- Whether no session may be taken away: the system itself may have kept people from renewing theirs. Where a caller
-- says so (grace), this holds for the next ready_ttl.
local function sessions_are_held(event, grace)
  load_sessions(event)
  local now, ready_ttl, until_ms = event.session_now, event.ready_ttl, event.state.session_hold or 0
  if grace and until_ms < now + ready_ttl - 1000 then
    until_ms = now + ready_ttl
    set_state(event, 'session_hold', until_ms)
    set_state(event, 'session_clock', now)
  end
  return grace or until_ms > now
end

-- Of tickets whose time in one key has passed, at most SESSIONS_PRUNED, those that the other key has, or has not.
local function find_over(event, key, other, has)
  local over, found = call('ZRANGEBYSCORE', key, '-inf', int(event.session_now), 'LIMIT', 0, SESSIONS_PRUNED), {}
  if #over == 0 then return found end
  for i, score in ipairs(call('ZMSCORE', other, unpack(over))) do
    if (score and true or false) == has then found[#found + 1] = over[i] end
  end
  return found
end

-- Takes out sessions that have ended; where they are held, those alone that were released. Returns how many.
local function prune_sessions(event, held)
  load_sessions(event)
  if event.inside == 0 then return 0 end
  local over
  if held then
    over = find_over(event, SESSIONS, ENDED, true)
  else
    over = call('ZRANGEBYSCORE', SESSIONS, '-inf', int(event.session_now), 'LIMIT', 0, SESSIONS_PRUNED)
  end
  if #over > 0 then
    call('ZREM', SESSIONS, unpack(over))
    count_sessions(event, -#over, false)
    set_state(event, 'session_clock', event.session_now)
  end
  return #over
end

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

-- Ends a ticket's session: its pass is good nowhere once every process has heard of it. Returns 1 if it was active.
local function release_session(event, ticket)
  load_sessions(event)
  local now, ends = event.session_now, tonumber(call('ZSCORE', SESSIONS, ticket) or 0)
  local forget_at = max(ends, now + event.session_ttl + SESSION_SLACK)
  if call('ZADD', ENDED, 'NX', int(forget_at), ticket) == 0 then return 0 end
  if ends > now + RELEASE_DELAY then call('ZADD', SESSIONS, 'XX', int(now + RELEASE_DELAY), ticket) end
  -- Later than every version before, also of a state that was lost.
  read_state(event, 'session_version')
  set_state(event, 'session_version', max((event.state.session_version or 0) + 1, now))
  set_state(event, 'session_clock', now)
  return ends > now and 1 or 0
end

-- Forgets released tickets whose passes have run out by themselves. Returns how many.
local function prune_ended(event)
  -- First goes the session itself: after the other order it could be renewed.
  local over = find_over(event, ENDED, SESSIONS, false)
  if #over > 0 then
    call('ZREM', ENDED, unpack(over))
    set_state(event, 'session_clock', event.session_now)
  end
  return #over
end
