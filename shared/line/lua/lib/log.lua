-- The log, a stream, and its entries: the ID of an entry is its ticket.
-- include: basics, keys
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N) a ticket

-- The ID of a ticket's entry.
local function entry_id(ticket) return format('%.0f-%.0f', floor(ticket / 1000), ticket % 1000) end

-- The ticket (a number) of the entry with this ID.
local function ticket_of(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return ms * 1000 + seq
end

-- A ticket's entry, or nil if the log has none: {id, {'u', who}}.
local function find_entry(ticket)
  local id = entry_id(ticket)
  return call('XRANGE', LOG, id, id)[1]
end

-- The newest ticket that was ever in the log, or nil without a log: it survives the deletion of every entry.
local function last_logged()
  if call('EXISTS', LOG) == 0 then return nil end
  local info = call('XINFO', 'STREAM', LOG)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return ticket_of(info[i + 1]) end
  end
end
