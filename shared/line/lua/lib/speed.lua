-- How fast the line moves: people who leave its head, counted in windows of 15 s, and the rate for ETAs.
-- include: basics, state
-- KEYS     as state
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)
local HEAD_WINDOW = 15000

-- The window of now, and how many left the head in it and in the one before.
local function head_counts(event)
  local state, window = event.state, floor(event.now / HEAD_WINDOW)
  if state.head_at == window then return window, state.head_now or 0, state.head_before or 0 end
  if state.head_at == window - 1 then return window, 0, state.head_now or 0 end
  return window, 0, 0
end

-- Counts people who have just left the head of the line.
local function count_head_departures(event, people)
  if people == 0 then return end
  local window, current, before = head_counts(event)
  set_state(event, 'head_at', window)
  set_state(event, 'head_now', current + people)
  set_state(event, 'head_before', before)
end

-- People per second who left the head over the last 15 s.
local function head_speed(event)
  local _, current, before = head_counts(event)
  return (current + before * (1 - event.now % HEAD_WINDOW / HEAD_WINDOW)) * 1000 / HEAD_WINDOW
end

-- The measured admission rate while it is recent, else the configured one.
local function eta_rate(event)
  local state = event.state
  local measured = state.eta_at and math.abs(event.now - state.eta_at) < 60000 and state.eta_rate or 0
  return max(measured > 0 and measured or event.rate, head_speed(event))
end
