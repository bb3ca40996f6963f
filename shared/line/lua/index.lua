-- Publishes the position index: how fast the line moves, and milestones between which anyone far back is placed.
-- include: basics, door, event, keys, state
-- KEYS     as keys
-- ARGV     as event, then STEP the age in ms from which an index is worth computing again, and how many milestones
-- Returns  1 if it was published, 0 if it was recent or there is nothing to publish
-- Complexity O(M log N) for M milestones
local event, refused = load_event()
if refused then return refused end
local min_age, most_milestones = tonumber(ARGV[STEP]), tonumber(ARGV[STEP + 1])

local now, state, waiting = event.now, event.state, event.waiting
read_state(event, 'indexed')
-- In a damaged line the last index from before is the best that anyone knows.
if event.damaged or not state.last then return 0 end
local age = state.indexed and now - state.indexed or -1
if age >= 0 and age < min_age then return 0 end

-- Averages over the last 1, 5 and 15 minutes, weighted as load averages are, of the time in which people waited:
-- an idle hour says nothing about how fast a line moves. Each keeps what was admitted and over how much time.
local SPANS = {60, 300, 900}
local history = {}
for number in string.gmatch(call('HGET', STATE, 'rates') or '', '%S+') do history[#history + 1] = tonumber(number) end
local admitted = tonumber(call('HGET', STATE, 'admitted') or 0)
local before, had_waiting = history[1] or admitted, history[2] == 1
local has_waiting = waiting > 0 and not event.paused
local elapsed = age > 0 and age / 1000 or 0
local averages, next_history = {}, {int(admitted), has_waiting and '1' or '0'}
for i, span in ipairs(SPANS) do
  local people, seconds = history[2 * i + 1] or 0, history[2 * i + 2] or 0
  if had_waiting and has_waiting and elapsed > 0 then
    local kept = math.exp(-elapsed / span)
    people = people * kept + (admitted - before) / elapsed * span * (1 - kept)
    seconds = seconds * kept + span * (1 - kept)
  end
  averages[i] = seconds > 0 and people / seconds or 0
  next_history[#next_history + 1] = format('%.9g', people)
  next_history[#next_history + 1] = format('%.9g', seconds)
end
call('HSET', STATE, 'rates', table.concat(next_history, ' '))
set_state(event, 'indexed', now)

local milestones = {}
if waiting > 0 then
  local fresh_calls = load_door(event).fresh_calls
  local step, rank = max(1, math.ceil((waiting - 1) / (most_milestones - 1))), 0
  while true do
    milestones[#milestones + 1] = tonumber(call('ZRANGE', LINE, rank, rank)[1])
    milestones[#milestones + 1] = fresh_calls + rank + 1
    if rank == waiting - 1 then break end
    rank = min(rank + step, waiting - 1)
  end
end
call('SET', INDEX, cmsgpack.pack({standing(event), averages, milestones}))
save_state(event)
return 1
