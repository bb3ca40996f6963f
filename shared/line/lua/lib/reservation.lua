-- The reservations of admitted tickets, as they stand in `passes`: time of issue in ms, '0' or '1' once redeemed, the
-- digest of the Idempotency-Key that redeemed it if it had one, and who holds it.
-- include: basics, keys
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)

-- When last issued in ms (nil if there is none), whether redeemed and by which key ('' without one), and who holds it.
local function read_reservation(ticket)
  local reservation = call('HGET', PASSES, ticket)
  if not reservation then return nil, false end
  local issued, redeemed, key, who = string.match(reservation, '^(%d+) (%d)(%x*) (.*)$')
  return tonumber(issued), redeemed == '1', key, who
end

local function issue_reservation(ticket, now, who) call('HSET', PASSES, ticket, int(now) .. ' 0 ' .. who) end

local function redeem_reservation(ticket, issued, key, who)
  call('HSET', PASSES, ticket, int(issued) .. ' 1' .. key .. ' ' .. who)
end
