-- How fast the line moves: people who leave its head, counted in windows of 15 s; and the rate for ETAs, from how many
-- of those whose turn comes take it up. That is known after a few seconds, without noise, and does not depend on the
-- rate. The speed of the head and the measured admissions, from which promised waits were once computed, begin with
-- what the burst let in, and lag (seen); the measured ones count only under a full cap, which has no rate of its own.
-- include: basics, keys, openings, state, stays
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

-- Whoever enters has done so this long after the call (ms): they poll every 2 s.
local TURN_WINDOW = 2500

-- Counts people whose turn has come: how many were called, and how many stepped aside; and works out from the sample
-- what eta_rate needs. The older ones count less and less: when the sample is full they are halved, together with the
-- admissions. Calls that may still be taken up stay whole.
local function count_turns(event, called, absent)
  -- Before anything is known everyone enters, as if so many had: a wait promised too long is better than one too short.
  local prior = 5
  read_state(event, 'admitted', 'turns_called', 'turns_absent', 'turns_uncounted', 'turns_at', 'turns_settling',
    'turns_settled')
  local now, state = event.now, event.state
  local admitted, window = state.admitted or 0, floor(now / TURN_WINDOW)
  if state.turns_at ~= window then
    set_state(event, 'turns_settled', state.turns_at == window - 1 and state.turns_settling or state.turns_called or 0)
    set_state(event, 'turns_settling', state.turns_called or 0)
    set_state(event, 'turns_at', window)
  end
  local uncounted = state.turns_uncounted or admitted
  called = (state.turns_called or 0) + called
  -- People who have gone stand together at the head after a pause, say, which tells nothing of those behind them.
  absent = min((state.turns_absent or 0) + absent, called)
  -- Who walked in past an empty line, or was called by an older version, was not counted as called.
  uncounted = max(uncounted, admitted - called)
  local undecided = call('ZCOUNT', CALLED, '(' .. int(now - TURN_WINDOW), int(now))
  if called + absent > max(200, 4 * event.capacity) then
    called, absent = (called + undecided) / 2, absent / 2
    uncounted = (uncounted + admitted) / 2
  end
  local entered = admitted - uncounted
  local decided = max(entered, called - undecided) + prior
  set_state(event, 'turns_called', called)
  set_state(event, 'turns_absent', absent)
  set_state(event, 'turns_uncounted', uncounted)
  -- Not the last calls at all: who has entered of those is quick, and says nothing of the others.
  set_state(event, 'turns_seen', min(state.turns_settled, max(0, called - undecided)) + absent)
  set_state(event, 'entering', (entered + prior) / decided)
  set_state(event, 'absences', absent / (called + prior))
end

-- How many may enter in a second, as it comes to for the last in line: under a cap people fill the free slots at the
-- rate, then come in only as fast as sessions end. If that decides, also what turnover() says of how sure it is.
local function entries_per_second(event)
  local people, rate = event.waiting + event.called, event.rate
  if not event.max_active or rate <= 0 or people == 0 then return rate end
  local free, ending, known, gap = max(0, free_slots(event)), turnover(event)
  if people <= free or ending >= rate then return rate end
  return people / (free / rate + (people - free) / ending), known, gap
end

-- People per second by which the line gets shorter in front of somebody, as far as the last turns tell: only those who
-- enter take a token, so the more stay away, the faster it goes. Then whether the burst may bound it, whether the cap
-- does, how much it rests on (turns, or under a cap how many of a thousand inside were seen to leave), and under a cap for
-- how many seconds nobody leaves.
local MOST_SEEN, LONGEST_GAP = 1000, 1000
local function eta_rate(event)
  local entering, absences = event.state.entering or 1, event.state.absences or 0
  local entries, known, gap = entries_per_second(event)
  -- Fresh calls never exceed a full bucket. Whoever enters does so about 1 s after the call; the others' calls are fresh
  -- for about 3 s, until their second poll, or to the end (call_fresh) if they have gone.
  local staying = 1 - entering
  local by_entries, by_burst = entries / entering, event.capacity / (entering + 3 * staying)
  local held = event.capacity / (entering + event.call_fresh / 1000 * staying) < by_entries
  local seen = min(MOST_SEEN, known and MOST_SEEN * known or event.state.turns_seen or 0)
  return min(by_entries, by_burst) * (1 + absences), held, known ~= nil, floor(seen),
    floor(min(LONGEST_GAP, gap or 0))
end
