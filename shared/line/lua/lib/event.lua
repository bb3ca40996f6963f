-- The event as every step sees it: the time, the settings in force, its counts and its state.
-- include: abandonment, basics, clock, keys, log, openings, speed, state
-- KEYS     as keys
-- ARGV     1 clock override in us, or '' for the server's TIME   2 rate, people/s   3 burst
--          4 pass_ttl   5 heartbeat_ttl   6 ready_ttl   7 call_fresh   8 dedupe_ttl   9 line_ttl, all in ms
--          STEP.. the step's own
-- Returns  nothing: it defines
-- Complexity O(1)
local STEP = 10
local SCHEMA = 1
-- In ms, of an event that says nothing else.
local SESSION_TTL = 300000

-- Returns the event, or nil and the error with which the step has to answer.
local function load_event()
  local clock, rate, burst, pass_ttl, heartbeat_ttl, ready_ttl, call_fresh, dedupe_ttl, line_ttl =
    unpack(ARGV, 1, STEP - 1)
  local config = call('HMGET', CONFIG, 'rate', 'burst', 'pass_ttl', 'paused', 'max_active', 'session_ttl',
    'session_limit')
  local now, now_us = read_clock(clock)
  rate, heartbeat_ttl = tonumber(config[1] or rate), tonumber(heartbeat_ttl)
  local event = {
    now = now, now_us = now_us,
    -- Settings: times in ms.
    rate = rate,
    -- Under 4 s of the rate, the time between two polls would cap the rate.
    capacity = max(tonumber(config[2] or burst), 4 * rate),
    pass_ttl = min(tonumber(config[3] or pass_ttl), heartbeat_ttl),
    paused = config[4] == '1',
    -- nil: no cap, and no limit.
    max_active = tonumber(config[5]), session_limit = tonumber(config[7]),
    session_ttl = tonumber(config[6]) or SESSION_TTL,
    heartbeat_ttl = heartbeat_ttl, ready_ttl = tonumber(ready_ttl), call_fresh = tonumber(call_fresh),
    dedupe_ttl = tonumber(dedupe_ttl), line_ttl = tonumber(line_ttl),
    -- Counts: log entries, and where the people are.
    logged = call('XLEN', LOG), waiting = call('ZCARD', LINE), called = call('ZCARD', CALLED),
    absent = call('ZCARD', ABSENT), members = 0,
    -- See state.lua.
    state = {}, unsaved = {},
    -- Found below. is_new: nobody has ever joined, or everything was forgotten since.
    log_lost = false, damaged = false, is_new = false, tokens = 0, session_now = now,
    -- See openings.lua. inside is nil until load_sessions.
    inside = nil, sessions_lost = false,
  }
  read_state(event, 'schema', 'last', 'tokens', 'refilled', 'head_at', 'head_now', 'head_before', 'entering', 'absences',
    'turns_seen', 'gave_up', 'gave_up_settled', 'gave_up_time', 'gave_up_at', 'relog', 'session_clock')
  local state = event.state
  if state.schema and state.schema ~= SCHEMA then
    return nil, redis.error_reply('SCHEMA the state of this event is of version ' .. state.schema
      .. ', this Daegi knows ' .. SCHEMA)
  end

  -- Never back: what has ended stays ended.
  event.session_now = max(now, state.session_clock or 0)
  local members = event.waiting + event.called + event.absent
  event.members = members
  event.log_lost = state.relog == 1 or (event.logged == 0 and members > 0)
  event.damaged = event.log_lost or event.logged ~= members

  if state.last and state.tokens and state.refilled then
    -- After a jump back of the clock the bucket goes on from there.
    if state.refilled > now then set_state(event, 'refilled', now) end
    event.tokens = min(event.capacity, state.tokens + rate * (now - state.refilled) / 1000)
  else
    local last = last_logged()
    event.is_new = not last and members == 0
    event.tokens = event.is_new and event.capacity or 0
    if not event.is_new then
      set_state(event, 'schema', SCHEMA)
      set_state(event, 'last', max(last or 0, state.last or 0))
      set_state(event, 'tokens', 0)
      set_state(event, 'refilled', now)
      -- How many verified users there should be is lost as well.
      set_state(event, 'recount', 1)
      set_state(event, 'active', ACTIVE_UNKNOWN)
    end
  end
  if event.max_active then load_sessions(event) end
  return event
end

-- Writes down that a new event has begun.
local function begin_event(event)
  set_state(event, 'schema', SCHEMA)
  set_state(event, 'tokens', event.tokens)
  set_state(event, 'refilled', event.now)
  set_state(event, 'swept', event.now)
end

-- Takes tokens out of the bucket; taking 0 writes down what it has gathered until now.
local function take_tokens(event, count)
  event.tokens = event.tokens - count
  set_state(event, 'tokens', event.tokens)
  set_state(event, 'refilled', event.now)
end

-- now in ms, flags, openings, rate, head speed and rate for ETAs in people/s, people in line. Flags: 1 damaged, 2 paused,
-- 4 the log is lost, 8 the burst may bound the rate for ETAs, 16 a cap does, 2^5 times how much it rests on, 2^15 times for
-- how long nobody leaves (eta_rate), 2^25 and 2^39 times what share gives up in a second, at least and at most (hazards).
-- Older processes do not look at what they do not know.
local function standing(event)
  local for_etas, held, capped, seen, gap = eta_rate(event)
  local least, most = hazards(event)
  local flags = (event.damaged and 1 or 0) + (event.paused and 2 or 0) + (event.log_lost and 4 or 0)
    + (held and 8 or 0) + (capped and 16 or 0) + 32 * seen + 32768 * gap
    + 2 ^ 25 * least + 2 ^ 39 * most
  return {
    int(event.now), flags,
    format('%.6g', openings(event)), format('%.6g', event.rate), format('%.6g', max(event.rate, head_speed(event))),
    format('%.6g', for_etas), event.waiting,
  }
end
