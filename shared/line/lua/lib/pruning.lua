-- The end of sessions whose time has passed.
-- include: basics, insiders, keys, openings, state, stays
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N) a ticket, and at most 100 a call
local SESSIONS_PRUNED = 100

-- Notes that sessions were put in or taken out. is_known: `active` counts them already, for they were lost.
local function count_sessions(event, change, is_known)
  local state = event.state
  count_stays(event, change)
  event.inside = event.inside + change
  if not is_known then set_state(event, 'active', (state.active or 0) + change) end
  if event.sessions_lost then set_state(event, 'present', state.present + change) end
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

-- Takes out sessions that have ended; where they are held, those alone that were released. Returns how many.
local function prune_sessions(event, held)
  load_sessions(event)
  if event.inside == 0 then return 0 end
  local over = call('ZRANGEBYSCORE', SESSIONS, '-inf', int(event.session_now), 'LIMIT', 0, SESSIONS_PRUNED)
  if held and #over > 0 then
    local released = {}
    for i, score in ipairs(call('ZMSCORE', ENDED, unpack(over))) do
      if score then released[#released + 1] = over[i] end
    end
    over = released
  end
  if #over > 0 then
    call('ZREM', SESSIONS, unpack(over))
    forget_insiders(over)
    count_sessions(event, -#over, false)
    set_state(event, 'session_clock', event.session_now)
  end
  return #over
end
