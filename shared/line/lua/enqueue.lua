-- Gives each of a batch of joins its place in the line: log and line are written here, together.
-- include: event, door
-- KEYS     as event
-- ARGV     as event, then STEP 1 if an undeclared event may be created, else 0; then two a join: its key (''
--          without one, else 16 bytes of key digest and 8 of user digest) and who joins ('' for nobody, 'u' and
--          a label, or 'v' and a verified user id)
-- Returns  code (1 done, 0 no such event, -1 the log is lost), 1 if the event is new, standing, and three a join:
--          code (0 the key belongs to somebody else, 1 new, 2 still in line, 3 admitted), ticket, position
-- Complexity O(log N) a join
if fresh_event and ARGV[STEP] == '0' and call('EXISTS', CONFIG) == 0 then return {0, 0, standing(), {}} end
if log_lost then return {-1, 0, standing(), {}} end

read('rotated')
if fresh_event then
  set('schema', SCHEMA)
  set('tokens', tokens)
  set('refilled', now)
  set('swept', now)
  set('verified', 0)
end
local age = state.rotated and now - state.rotated
if not age or age < 0 then
  set('rotated', now)
elseif age >= DEDUPE_TTL then
  -- RENAME over a large hash would free it in the foreground.
  call('UNLINK', DEDUPE_OLD)
  if age >= 2 * DEDUPE_TTL then
    call('UNLINK', DEDUPE_NEW)
    set('rotated', now)
  else
    if call('EXISTS', DEDUPE_NEW) == 1 then call('RENAME', DEDUPE_NEW, DEDUPE_OLD) end
    -- When it was due, not when somebody came: seldom joins would keep a key for a third period.
    set('rotated', state.rotated + DEDUPE_TTL)
  end
end

local last = state.last or 0
local joined, places, additions, results = 0, 0, {}, {}

local function add_to_line()
  if #additions > 0 then call('ZADD', LINE, unpack(additions)) end
  lined = lined + #additions / 2
  additions = {}
end

local function answer(code, ticket, place)
  results[#results + 1] = code
  results[#results + 1] = ticket
  results[#results + 1] = place
end

-- 2 while it is in the log, 3 once admitted, else nil
local function alive(ticket)
  if in_log(ticket) then return 2 end
  if call('ZSCORE', ADMITTED, ticket) then return 3 end
end

local function replay(code, ticket)
  if code == 3 then return answer(code, ticket, 0) end
  add_to_line()
  bring_back({ticket})
  answer(code, ticket, position(ticket))
end

local function join(key, who)
  local digest = string.sub(key, 1, 16)
  local known = key ~= '' and (call('HGET', DEDUPE_NEW, digest) or call('HGET', DEDUPE_OLD, digest))
  if known then
    local ticket, owner = string.sub(known, 1, -9), string.sub(known, -8)
    local code = alive(ticket)
    if code and owner ~= string.sub(key, 17) then return answer(0, '0', 0) end
    if code then return replay(code, ticket) end
  end
  local user = string.sub(who, 1, 1) == 'v' and string.sub(who, 2)
  local place = user and call('HGET', PLACES, user)
  local ticket = place and in_log(place) and place
  if not ticket then
    last = max(now_us, last + 1)
    ticket = int(last)
    call('XADD', LOG, entry_id(last), 'u', who)
    additions[#additions + 1] = ticket
    additions[#additions + 1] = ticket
    joined = joined + 1
    if user then places = places + call('HSET', PLACES, user, ticket) end
    answer(1, ticket, damaged and 0 or fresh + lined + #additions / 2)
  else
    replay(2, ticket)
  end
  if key ~= '' then call('HSET', DEDUPE_NEW, digest, ticket .. string.sub(key, 17)) end
end

for i = STEP + 1, #ARGV, 2 do join(ARGV[i], ARGV[i + 1]) end
add_to_line()
if joined > 0 then set('last', last) end
save()
tally('joined', joined)
tally('verified', places)
return {1, fresh_event and 1 or 0, standing(), results}
