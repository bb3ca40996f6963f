-- How long sessions last, from those that were seen to end: it decides how fast a line moves under a full cap.
-- include: basics, openings, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)

-- Ends that count at least, before older ones are forgotten, and after which it is known how people leave.
local FEW_ENDS = 60

-- How many sessions were seen to end, the time that people were inside meanwhile, in person-seconds, and how many ended
-- ever.
local function load_stays(event)
  load_sessions(event)
  read_state(event, 'stays_ended', 'stays_time', 'stays_total', 'stays_since', 'stays_at', 'stays_end', 'stays_gap')
  local state, now = event.state, event.session_now
  local seconds = max(0, now - (state.stays_at or now)) / 1000
  return state.stays_ended or 0, (state.stays_time or 0) + event.inside * seconds, state.stays_total or 0
end

-- For how long nobody has left, in s.
local function seconds_since_an_end(event)
  local state, now = event.state, event.session_now
  return max(0, now - (state.stays_end or now)) / 1000
end

-- Notes that the number of sessions is about to change. Older ends count less and less.
local function count_stays(event, change)
  local ended, time, total = load_stays(event)
  local state, now = event.state, event.session_now
  local ends = max(0, -change)
  ended = ended + ends
  if ended > max(FEW_ENDS, event.inside / 2) then ended, time = ended / 2, time / 2 end
  set_state(event, 'stays_ended', ended)
  set_state(event, 'stays_time', time)
  set_state(event, 'stays_total', total + ends)
  set_state(event, 'stays_at', now)
  if not state.stays_since then set_state(event, 'stays_since', now) end
  if ends > 0 or not state.stays_end then
    local gap, memory = seconds_since_an_end(event), event.session_ttl / 1000
    -- As somebody finds it who looks at any time: the longer it lasts, the likelier they look at it.
    set_state(event, 'stays_gap', (gap * gap + memory * (state.stays_gap or 0)) / (gap + memory))
    set_state(event, 'stays_end', now)
  end
end

-- How many sessions end in a second when all slots are taken; how much of what is to be known of it is, at most 1; and
-- how long it is from one end to the next, in s: people who came in together leave together. All is known when as many
-- left as are inside, less the noise of as few ends as are remembered, and not before two session TTLs have passed: those
-- who stay for long pile up meanwhile, and nobody has seen them leave.
local function turnover(event)
  local prior, ended, time, total = 4, load_stays(event)
  local shortest, unseen = max(event.session_ttl, event.pass_ttl) / 1000, prior + max(0, event.inside - total)
  -- People who came in together stay for a while before any of them leaves: whoever has not been seen to leave is
  -- expected to stay for as long as a session lasts without a request, unless those who did leave were faster.
  local stay = min((time + prior * shortest) / (ended + prior), (time + unseen * shortest) / (ended + unseen))
  local gap = max(event.state.stays_gap or 0, seconds_since_an_end(event))
  local noise = 2 / math.sqrt(max(FEW_ENDS, event.inside / 2))
  local watched = (event.session_now - (event.state.stays_since or event.session_now)) / 1000
  local known = min(1, total / max(FEW_ENDS, event.inside), watched / (2 * shortest))
  return event.max_active / stay, known * (1 - noise), gap
end
