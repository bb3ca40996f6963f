-- Redeems a reservation, once; the same key (a retry, after a lost reply) is given the same answer.
-- include: event
-- KEYS     as event
-- ARGV     as event, then STEP ticket, the reservation's time of issue in ms and the digest of an Idempotency-Key ('' none)
-- Returns  code (0 expired, 1 redeemed now or by this key, 2 redeemed before), who was admitted, time of the grant in ms
-- Complexity O(log N)
local ticket, key = ARGV[STEP], ARGV[STEP + 2]
local issued, redeemed, by, who = pass_of(ticket)
if redeemed and (key == '' or key ~= by) then return {2, '', 0} end
if not redeemed then
  if issued ~= tonumber(ARGV[STEP + 1]) or now - issued >= pass_ttl then return {0, '', 0} end
  call('HSET', PASSES, ticket, int(issued) .. ' 1' .. key .. ' ' .. who)
  tally('redeemed', 1)
end
return {1, who, call('ZSCORE', ADMITTED, ticket) or int(issued)}
