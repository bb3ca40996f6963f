-- Writes back what a piece of the log should have in the line, the heartbeats and the places. Never removes a member.
-- include: basics, event, keys, log, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 to look at heartbeats too, else 0; the log entry after which to go on ('-' to
--          begin); how many entries; then, to look at these alone, tickets
-- Returns  the entry to go on after ('' at the end), entries written back, standing
-- Complexity O(log N) an entry
local event, refused = load_event()
if refused then return refused end
local heartbeats, after, limit = ARGV[STEP] == '1', ARGV[STEP + 1], tonumber(ARGV[STEP + 2])
local named = {unpack(ARGV, STEP + 3)}

local entries, next_entry = {}, ''
if #named > 0 then
  for _, ticket in ipairs(named) do entries[#entries + 1] = find_entry(ticket) end
else
  entries = call('XRANGE', LOG, after == '-' and '-' or '(' .. after, '+', 'COUNT', limit)
  if #entries == limit then next_entry = entries[#entries][1] end
end

local tickets = {}
for i, entry in ipairs(entries) do tickets[i] = int(ticket_of(entry[1])) end
local written = 0
if #tickets > 0 then
  local in_line, in_called, in_absent = call('ZMSCORE', LINE, unpack(tickets)), call('ZMSCORE', CALLED, unpack(tickets)),
    call('ZMSCORE', ABSENT, unpack(tickets))
  for i, ticket in ipairs(tickets) do
    if not (in_line[i] or in_called[i] or in_absent[i]) then
      call('ZADD', LINE, ticket, ticket)
      written = written + 1
    elseif in_called[i] and (in_line[i] or in_absent[i]) then
      call('ZREM', LINE, ticket)
      call('ZREM', ABSENT, ticket)
    elseif in_line[i] and in_absent[i] then
      call('ZREM', ABSENT, ticket)
    end
  end
  if heartbeats then
    local seen = call('ZMSCORE', HEARTBEAT, unpack(tickets))
    for i, ticket in ipairs(tickets) do
      if not seen[i] then
        call('ZADD', HEARTBEAT, int(event.now), ticket)
        written = written + 1
      end
    end
  end
end

for i, entry in ipairs(entries) do
  local who = entry[2][2]
  if string.sub(who, 1, 1) == 'v' then
    local user = string.sub(who, 2)
    local place = call('HGET', PLACES, user)
    -- That the place is this entry itself only spares a look into the log.
    if not place or (place ~= tickets[i] and not find_entry(place)) then
      add_to_total('verified', call('HSET', PLACES, user, tickets[i]))
      written = written + 1
    end
  end
end
if #named == 0 then
  set_state(event, 'walking', next_entry == '' and 0 or event.now)
  if next_entry == '' then
    set_state(event, 'walked', event.now)
    set_state(event, 'walked_off',
      event.logged - call('ZCARD', LINE) - call('ZCARD', CALLED) - call('ZCARD', ABSENT))
  end
  -- Every entry has its place now; from here on joins and departures keep the count.
  if next_entry == '' and event.logged > 0 then
    set_state(event, 'verified', call('HLEN', PLACES))
    set_state(event, 'recount', 0)
  end
end
save_state(event)
return {next_entry, written, standing(event)}
