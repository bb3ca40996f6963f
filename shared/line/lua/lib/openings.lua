-- Who is inside, and how many more may be let in. A slot is free again when its session is taken out (pruning.lua), and
-- only then. The state's `active` counts what is put in and taken out: where it differs from the key's own count,
-- sessions were lost, and under a cap nobody is let in until all of those have ended, or their renewals have put them
-- back.
-- include: basics, keys, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)

-- How much later than its pass a session ends: a process whose clock is off by less honours no pass without a slot.
local SESSION_SLACK = 2000
-- `active` once the state was lost: it equals no count.
local ACTIVE_UNKNOWN = -1000000000

-- When the last of all sessions ever begun ends. Once the state was lost: when those do whose passes are new.
local function latest_end(event)
  return event.state.session_latest or event.session_now + max(event.session_ttl, event.pass_ttl) + SESSION_SLACK
end

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
    lost_until = max(lost_until, latest_end(event))
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
