-- The one way out of the line: leave, enter and expiry take away the log entry, the member, the heartbeat and
-- the user's place together. Needs event.
-- KEYS, ARGV  as event
-- Returns  nothing: it is included, not called
-- Complexity O(log N) a ticket
--
-- depart returns whether the log had the ticket, who held it ('' if nobody is known), and how many were taken
-- from the line itself.
local function depart(ticket)
  local id = entry_id(ticket)
  local entry = call('XRANGE', LOG, id, id)[1]
  local who = entry and entry[2][2] or ''
  if entry then call('XDEL', LOG, id) end
  if log_lost then call('XDEL', REBUILD, id) end
  local from_line = call('ZREM', LINE, ticket)
  call('ZREM', CALLED, ticket)
  call('ZREM', ABSENT, ticket)
  call('ZREM', HEARTBEAT, ticket)
  if string.sub(who, 1, 1) == 'v' and call('HGET', PLACES, string.sub(who, 2)) == ticket then
    call('HDEL', PLACES, string.sub(who, 2))
    call('HINCRBY', STATE, 'verified', -1)
  end
  return entry and true or false, who, from_line
end
