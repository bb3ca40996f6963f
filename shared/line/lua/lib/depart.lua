-- The one way out of the line: leave, enter and expiry take away the log entry, the member, the heartbeat and
-- the user's place together.
-- include: basics, keys, log, state
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N) a ticket

-- Returns whether it had a place (whoever is a member has one, also if the log has lost them), who held it ('' if
-- nobody is known), and how many were taken from the line itself.
local function depart(event, ticket)
  local entry = find_entry(ticket)
  local who = entry and entry[2][2] or ''
  if entry then call('XDEL', LOG, entry[1]) end
  local from_line = call('ZREM', LINE, ticket)
  local was_member = from_line + call('ZREM', CALLED, ticket) + call('ZREM', ABSENT, ticket) > 0
  call('ZREM', HEARTBEAT, ticket)
  if event.log_lost then
    call('XDEL', REBUILD, entry_id(ticket))
    -- If the state was lost too, nothing else keeps this ticket from being given again.
    if was_member and tonumber(ticket) > event.state.last then set_state(event, 'last', tonumber(ticket)) end
  end
  if string.sub(who, 1, 1) == 'v' and call('HGET', PLACES, string.sub(who, 2)) == ticket then
    call('HDEL', PLACES, string.sub(who, 2))
    add_to_total('verified', -1)
  end
  return was_member or entry ~= nil, who, from_line
end
