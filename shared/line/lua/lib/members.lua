-- The members: everybody who is in line, called or absent.
-- include: basics, keys
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1) a ticket

local function is_member(ticket)
  return (call('ZSCORE', LINE, ticket) or call('ZSCORE', CALLED, ticket) or call('ZSCORE', ABSENT, ticket)) and true
    or false
end
