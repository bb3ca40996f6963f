-- The event as every step sees it: its keys, the time, the settings in force, and its state, read once and
-- written once (save).
-- KEYS     the event's keys in the order of EventKeys (shared/keys.py)
-- ARGV     1 clock override in us, or '' for the server's TIME   2 rate, people/s   3 burst
--          4 pass_ttl   5 heartbeat_ttl   6 ready_ttl   7 call_fresh   8 dedupe_ttl   9 line_ttl, all in ms
--          STEP.. the step's own
-- Returns  nothing: it is included, not called
-- Complexity O(1)
local LOG, REBUILD, LINE, ABSENT, CALLED, HEARTBEAT, PLACES, DEDUPE_NEW, DEDUPE_OLD, ADMITTED, PASSES, STATE,
  CONFIG, INDEX = unpack(KEYS)
local STEP = 10
local PASS_TTL, HEARTBEAT_TTL, READY_TTL, CALL_FRESH, DEDUPE_TTL, LINE_TTL = tonumber(ARGV[4]), tonumber(ARGV[5]),
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local SCHEMA = 1
local HEAD_WINDOW = 15000
local call, floor, max, min, format = redis.call, math.floor, math.max, math.min, string.format

-- Lua prints a ticket as 1.79e+15 unless told how.
local function int(number) return format('%.0f', number) end

local function entry_id(ticket) return format('%.0f-%.0f', floor(ticket / 1000), ticket % 1000) end

local now_us = tonumber(ARGV[1])
if not now_us then
  local time = call('TIME')
  now_us = time[1] * 1000000 + time[2]
end
local now = floor(now_us / 1000)

local state, unsaved = {}, {}
local function read(...)
  local values = call('HMGET', STATE, ...)
  for i, field in ipairs({...}) do
    if not unsaved[field] then state[field] = tonumber(values[i]) end
  end
end
local function set(field, value)
  state[field] = value
  unsaved[field] = true
end
local function save()
  local fields = {}
  for field in pairs(unsaved) do
    fields[#fields + 1] = field
    fields[#fields + 1] = format('%.17g', state[field])
  end
  if #fields > 0 then call('HSET', STATE, unpack(fields)) end
  unsaved = {}
end
local function tally(total, people)
  if people > 0 then call('HINCRBY', STATE, total, people) end
end

read('schema', 'last', 'tokens', 'refilled', 'head_at', 'head_now', 'head_before', 'eta_rate', 'eta_at', 'relog')
if state.schema and state.schema ~= SCHEMA then
  return redis.error_reply('SCHEMA the state of this event is of version ' .. state.schema .. ', this Daegi knows '
    .. SCHEMA)
end

local config = call('HMGET', CONFIG, 'rate', 'burst', 'pass_ttl', 'paused')
local rate = tonumber(config[1] or ARGV[2])
-- Under 4 s of the rate, the time between two polls would cap the rate.
local capacity = max(tonumber(config[2] or ARGV[3]), 4 * rate)
local pass_ttl = min(tonumber(config[3] or PASS_TTL), HEARTBEAT_TTL)
local paused = config[4] == '1'

local logged, lined, called, stepped_aside = call('XLEN', LOG), call('ZCARD', LINE), call('ZCARD', CALLED),
  call('ZCARD', ABSENT)
local members = lined + called + stepped_aside
local log_lost = state.relog == 1 or (logged == 0 and members > 0)
local damaged = log_lost or logged ~= members

-- The log's last-generated-id survives the deletion of every entry.
local function last_logged()
  if call('EXISTS', LOG) == 0 then return nil end
  local info = call('XINFO', 'STREAM', LOG)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local ms, seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
      return ms * 1000 + seq
    end
  end
end

local fresh_event = false
local tokens
if state.last and state.tokens and state.refilled then
  -- After a jump back of the clock the bucket goes on from there.
  if state.refilled > now then set('refilled', now) end
  tokens = min(capacity, state.tokens + rate * (now - state.refilled) / 1000)
else
  local last = last_logged()
  fresh_event = not last and members == 0
  tokens = fresh_event and capacity or 0
  if last then
    set('schema', SCHEMA)
    set('last', max(last, state.last or 0))
    set('tokens', 0)
    set('refilled', now)
    -- How many verified users there should be is lost as well.
    set('recount', 1)
  end
end

local function spend(count)
  tokens = tokens - count
  set('tokens', tokens)
  set('refilled', now)
end

local function head_counts()
  local window = floor(now / HEAD_WINDOW)
  if state.head_at == window then return window, state.head_now or 0, state.head_before or 0 end
  if state.head_at == window - 1 then return window, 0, state.head_now or 0 end
  return window, 0, 0
end
local function count_head(people)
  if people == 0 then return end
  local window, current, before = head_counts()
  set('head_at', window)
  set('head_now', current + people)
  set('head_before', before)
end
local function head_speed()
  local _, current, before = head_counts()
  return (current + before * (1 - now % HEAD_WINDOW / HEAD_WINDOW)) * 1000 / HEAD_WINDOW
end

-- The measured admission rate while it is recent, else the configured one.
local function eta_rate()
  local measured = state.eta_at and math.abs(now - state.eta_at) < 60000 and state.eta_rate or 0
  return max(measured > 0 and measured or rate, head_speed())
end

-- An admitted ticket's reservation: when last issued in ms, whether redeemed and by which key, and who holds it.
local function pass_of(ticket)
  local issued, redeemed, key, who = string.match(call('HGET', PASSES, ticket) or '', '^(%d+) (%d)(%x*) (.*)$')
  return tonumber(issued), redeemed == '1', key, who
end

-- now in ms, flags (1 damaged, 2 paused, 4 the log is lost), tokens, rate, head speed and rate for ETAs in
-- people/s, people in line
local function standing()
  return {
    int(now), (damaged and 1 or 0) + (paused and 2 or 0) + (log_lost and 4 or 0), format('%.6g', tokens),
    format('%.6g', rate), format('%.6g', max(rate, head_speed())), format('%.6g', eta_rate()), lined,
  }
end
