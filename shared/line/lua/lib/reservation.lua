-- The reservations of admitted tickets, as they stand in `passes`: time of issue in ms, a digit ('0' issued, '1'
-- redeemed, '2' arrived without being redeemed), the digest of the Idempotency-Key that redeemed it if it had one, and
-- who holds it. Their times, and those in `admitted`, are session time.
-- include: basics, keys
-- KEYS     as keys
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(log N)

-- When last issued in ms (nil if there is none), whether redeemed and by which key ('' without one), who holds it, and
-- whether they have arrived.
local function read_reservation(ticket)
  local reservation = call('HGET', PASSES, ticket)
  if not reservation then return nil, false end
  local issued, digit, key, who = string.match(reservation, '^(%d+) (%d)(%x*) (.*)$')
  return tonumber(issued), digit == '1', key, who, digit == '1' or digit == '2'
end

local function issue_reservation(ticket, now, who) call('HSET', PASSES, ticket, int(now) .. ' 0 ' .. who) end

local function redeem_reservation(ticket, issued, key, who)
  call('HSET', PASSES, ticket, int(issued) .. ' 1' .. key .. ' ' .. who)
end

-- Whether a ticket has a reservation whose holder has not arrived. One that is forgotten has lapsed long ago.
local function is_awaited(ticket)
  local issued, _, _, _, has_arrived = read_reservation(ticket)
  return issued and not has_arrived
end

-- From here on it is not issued again.
local function note_arrival(ticket)
  local issued, _, _, who, has_arrived = read_reservation(ticket)
  if issued and not has_arrived then call('HSET', PASSES, ticket, int(issued) .. ' 2 ' .. who) end
end

-- Takes a reservation back unless it was redeemed. Returns whether there was one to take back.
local function cancel_reservation(ticket)
  local issued, redeemed = read_reservation(ticket)
  if not issued or redeemed then return false end
  call('HDEL', PASSES, ticket)
  call('ZREM', ADMITTED, ticket)
  return true
end
