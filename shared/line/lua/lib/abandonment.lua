-- How many of those who wait give up: they leave, or fall silent until their heartbeats expire. Everybody behind them is
-- let in sooner. Counted as a hazard: how many gave up, by the time that people were in line meanwhile, in person-seconds.
-- include: basics, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)

-- Most of those who give up do so early. Who has waited for so long (in ms) is settled, and what the settled do can be
-- expected of those who will be.
local SETTLED = 30000
-- For so long, in s, is remembered what a line did; a short one is remembered as if so many had been in it.
local MEMORY, FEW = 120, 100
-- So many person-seconds, and so many seconds of the whole line, count as watched from the start: else a line that has just
-- begun would be one in which everybody may give up at once.
local WATCHED, WATCHED_EACH = 500, 1
-- In ms: the door moves hundreds of times in a second (all of it would be a tenth of a poll, measured).
local PAUSE = 1000
-- The standard deviation of a count's square root (F. J. Anscombe, Biometrika 35, 1948).
local DEVIATION = 0.5
-- The shares travel as parts of a hundred thousand, in 14 bits each.
local HAZARD_UNIT, HIGHEST_HAZARD = 100000, 16383

-- Notes that these tickets have just been taken out of the line because their holders gave up. To be called when the door
-- has moved, too: else nobody knows how many waited meanwhile. Whoever came or went since the last time counts as if they
-- had not been there: the shortest time in which so many gave up.
local function count_abandoned(event, tickets)
  event.waiting = event.waiting - #tickets
  local state, now, line = event.state, event.now, event.waiting
  local elapsed = now - (state.gave_up_at or now)
  if #tickets == 0 and state.gave_up_at and elapsed >= 0 and elapsed < PAUSE then return end
  read_state(event, 'gave_up_line')
  local gave_up, settled = (state.gave_up or 0) + #tickets, state.gave_up_settled or 0
  for _, ticket in ipairs(tickets) do
    if now - tonumber(ticket) / 1000 >= SETTLED then settled = settled + 1 end
  end
  local time = (state.gave_up_time or 0) + min(line, state.gave_up_line or line) * max(0, elapsed) / 1000
  if time > MEMORY * max(FEW, line) then gave_up, settled, time = gave_up / 2, settled / 2, time / 2 end
  set_state(event, 'gave_up', gave_up)
  set_state(event, 'gave_up_settled', settled)
  set_state(event, 'gave_up_time', time)
  set_state(event, 'gave_up_at', now)
  set_state(event, 'gave_up_line', line)
end

-- The share of those in line that gives up in a second, in hundred-thousandths: at least, as the settled do, and at most,
-- as all do, each a standard deviation off.
local function hazards(event)
  local state = event.state
  local time = max(state.gave_up_time or 0, WATCHED, WATCHED_EACH * event.waiting) / HAZARD_UNIT
  local least = max(0, math.sqrt(state.gave_up_settled or 0) - DEVIATION) ^ 2 / time
  local most = (math.sqrt(state.gave_up or 0) + DEVIATION) ^ 2 / time
  return floor(min(least, HIGHEST_HAZARD)), math.ceil(min(most, HIGHEST_HAZARD))
end
