-- How long sessions last, from those that were seen to end: it decides how fast a line moves under a full cap.
-- include: basics, openings, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)

local FEW_STAYS = 60

-- How many sessions were seen to end, the time that people were inside meanwhile, in person-seconds, and how many ended
-- ever.
local function load_stays(event)
  load_sessions(event)
  read_state(event, 'stays_ended', 'stays_time', 'stays_total', 'stays_at')
  local state, now = event.state, event.session_now
  local seconds = max(0, now - (state.stays_at or now)) / 1000
  return state.stays_ended or 0, (state.stays_time or 0) + event.inside * seconds, state.stays_total or 0
end

-- Notes that the number of sessions is about to change. Older ends count less and less.
local function count_stays(event, change)
  local ended, time, total = load_stays(event)
  local ends = max(0, -change)
  ended = ended + ends
  if ended > max(FEW_STAYS, event.inside / 2) then ended, time = ended / 2, time / 2 end
  set_state(event, 'stays_ended', ended)
  set_state(event, 'stays_time', time)
  set_state(event, 'stays_total', total + ends)
  set_state(event, 'stays_at', event.session_now)
end

-- How many sessions end in a second when all slots are taken, and which part of those inside was seen to leave: all of
-- them, if as many left.
local function turnover(event)
  local prior, ended, time, total = 4, load_stays(event)
  local session_ttl, unseen = event.session_ttl / 1000, prior + max(0, event.inside - total)
  -- People who came in together stay for a while before any of them leaves: whoever has not been seen to leave is
  -- expected to stay for another session_ttl, unless that is longer than those stayed who did leave.
  local stay = min((time + prior * session_ttl) / (ended + prior),
    (time + unseen * session_ttl) / (ended + unseen))
  return event.max_active / stay, min(1, total / max(FEW_STAYS, event.inside))
end
