-- The release of sessions: while a released ticket's passes may look good, every process can ask for it.
-- include: basics, keys, openings, pruning, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N) a ticket, and at most 100 a call of prune_ended

-- How long it takes until every process has heard of a release.
local RELEASE_DELAY = 3000

-- Ends a ticket's session: its pass is good nowhere once every process has heard of it. Returns 1 if it was active.
local function release_session(event, ticket)
  load_sessions(event)
  local now, ends = event.session_now, tonumber(call('ZSCORE', SESSIONS, ticket) or 0)
  -- Its passes may last for longer than its session, if that was lost or comes from a replica that was behind.
  local forget_at = max(ends > 0 and ends or latest_end(event), now + event.session_ttl + SESSION_SLACK)
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
  local now = event.session_now
  local over, forgotten = call('ZRANGEBYSCORE', ENDED, '-inf', int(now), 'LIMIT', 0, SESSIONS_PRUNED), {}
  if #over == 0 then return 0 end
  for i, score in ipairs(call('ZMSCORE', SESSIONS, unpack(over))) do
    -- First goes the session itself: after the other order it could be renewed.
    if not score then forgotten[#forgotten + 1] = over[i] end
  end
  if #forgotten > 0 then
    call('ZREM', ENDED, unpack(forgotten))
    set_state(event, 'session_clock', now)
  end
  return #forgotten
end
