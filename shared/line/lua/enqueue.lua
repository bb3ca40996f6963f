-- Gives each of a batch of joins its place in the line: log and line are written here, together.
-- include: basics, codes, door, event, keys, log, members, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 if an undeclared event may be created, else 0; then two a join: its key (''
--          without one, else 16 bytes of key digest and 8 of user digest) and who joins ('' for nobody, 'u' and
--          a label, or 'v' and a verified user id)
-- Returns  code (EnqueueCode), 1 if the event is new, standing, and three a join: code (JoinCode), ticket, position
-- Complexity O(log N) a join
local event, refused = load_event()
if refused then return refused end
local may_create = ARGV[STEP] == '1'

if event.is_new and not may_create and call('EXISTS', CONFIG) == 0 then
  return {ENQUEUE_NO_EVENT, 0, standing(event), {}}
end
if event.log_lost then return {ENQUEUE_LOG_LOST, 0, standing(event), {}} end
local door = load_door(event)

-- A key lives through the period in which it was last used and the next one.
local function rotate_keys()
  read_state(event, 'rotated')
  local now, rotated, period = event.now, event.state.rotated, event.dedupe_ttl
  local age = rotated and now - rotated
  if not age or age < 0 then
    set_state(event, 'rotated', now)
  elseif age >= period then
    -- RENAME over a large hash would free it in the foreground.
    call('UNLINK', DEDUPE_OLD)
    if age >= 2 * period then
      call('UNLINK', DEDUPE_NEW)
      set_state(event, 'rotated', now)
    else
      if call('EXISTS', DEDUPE_NEW) == 1 then call('RENAME', DEDUPE_NEW, DEDUPE_OLD) end
      -- When it was due, not when somebody came: seldom joins would keep a key for a third period.
      set_state(event, 'rotated', rotated + period)
    end
  end
end

if event.is_new then begin_event(event) end
if event.logged == 0 then
  -- Nobody has a place, whatever was lost before.
  call('UNLINK', PLACES)
  set_state(event, 'verified', 0)
  set_state(event, 'recount', 0)
end
rotate_keys()

local now_us, last = event.now_us, event.state.last or 0
local joined, new_places, additions, results = 0, 0, {}, {}

local function add_to_line()
  if #additions > 0 then call('ZADD', LINE, unpack(additions)) end
  event.waiting = event.waiting + #additions / 2
  additions = {}
end

local function answer(code, ticket, place)
  results[#results + 1] = code
  results[#results + 1] = ticket
  results[#results + 1] = place
end

-- In a damaged line the log may lack somebody who is a member all the same.
local function has_place(ticket) return find_entry(ticket) or is_member(ticket) end

-- JOIN_IN_LINE while it has a place, JOIN_ADMITTED once admitted, else nil
local function code_of(ticket)
  if has_place(ticket) then return JOIN_IN_LINE end
  if call('ZSCORE', ADMITTED, ticket) then return JOIN_ADMITTED end
end

local function replay(code, ticket)
  if code == JOIN_ADMITTED then return answer(code, ticket, 0) end
  add_to_line()
  restore_absent(event, {ticket})
  answer(code, ticket, position(event, door, ticket))
end

-- Whether places have been lost that repair has not written back yet: then somebody without one may have a ticket.
local places_lost
local function are_places_lost()
  if places_lost == nil then
    read_state(event, 'verified', 'recount')
    places_lost = event.state.recount == 1 or call('HLEN', PLACES) < (event.state.verified or 0)
  end
  return places_lost
end

local function join(key, who)
  local digest = string.sub(key, 1, 16)
  local known = key ~= '' and (call('HGET', DEDUPE_NEW, digest) or call('HGET', DEDUPE_OLD, digest))
  if known then
    local ticket, owner = string.sub(known, 1, -9), string.sub(known, -8)
    local code = code_of(ticket)
    if code and owner ~= string.sub(key, 17) then return answer(JOIN_KEY_REUSED, '0', 0) end
    if code then return replay(code, ticket) end
  end
  local user = string.sub(who, 1, 1) == 'v' and string.sub(who, 2)
  local place = user and call('HGET', PLACES, user)
  local ticket = place and has_place(place) and place
  if user and not ticket and are_places_lost() then return answer(JOIN_PLACE_UNKNOWN, '0', 0) end
  if not ticket then
    last = max(now_us, last + 1)
    ticket = int(last)
    call('XADD', LOG, entry_id(last), 'u', who)
    additions[#additions + 1] = ticket
    additions[#additions + 1] = ticket
    joined = joined + 1
    if user then new_places = new_places + call('HSET', PLACES, user, ticket) end
    answer(JOIN_NEW, ticket, event.damaged and 0 or door.fresh_calls + event.waiting + #additions / 2)
  else
    replay(JOIN_IN_LINE, ticket)
  end
  if key ~= '' then call('HSET', DEDUPE_NEW, digest, ticket .. string.sub(key, 17)) end
end

for i = STEP + 1, #ARGV, 2 do join(ARGV[i], ARGV[i + 1]) end
add_to_line()
if joined > 0 then set_state(event, 'last', last) end
save_state(event)
add_to_total('joined', joined)
add_to_total('verified', new_places)
return {ENQUEUE_DONE, event.is_new and 1 or 0, standing(event), results}
