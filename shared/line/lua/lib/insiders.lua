-- Which verified user is inside under which ticket: one session each, so that a new one can end the older.
-- include: basics, keys
-- KEYS     as keys; INSIDERS has two fields a user: 'v' and the user id -> ticket, and ticket -> the former
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1) a ticket

-- Notes that a verified user (as in enqueue) comes in with a ticket. Returns the one they had before, if any.
local function note_insider(ticket, who)
  local earlier = call('HGET', INSIDERS, who)
  call('HSET', INSIDERS, who, ticket, ticket, who)
  if not earlier then return nil end
  call('HDEL', INSIDERS, earlier)
  return earlier
end

-- The sessions of these tickets are over.
local function forget_insiders(tickets)
  if call('EXISTS', INSIDERS) == 0 then return end
  local gone = {}
  for i, who in ipairs(call('HMGET', INSIDERS, unpack(tickets))) do
    if who then
      gone[#gone + 1], gone[#gone + 2] = tickets[i], who
    end
  end
  if #gone > 0 then call('HDEL', INSIDERS, unpack(gone)) end
end
