-- Redeems a reservation, once.
-- include: event
-- KEYS     as event
-- ARGV     as event, then STEP ticket and the reservation's time of issue in ms
-- Returns  code (0 expired, 1 redeemed now, 2 redeemed before), who was admitted, time of the grant in ms
-- Complexity O(log N)
local ticket = ARGV[STEP]
local issued, redeemed, who = string.match(call('HGET', PASSES, ticket) or '', '^(%d+) (%d) (.*)$')
if redeemed == '1' then return {2, '', 0} end
if issued ~= ARGV[STEP + 1] or now - issued >= pass_ttl then return {0, '', 0} end
call('HSET', PASSES, ticket, issued .. ' 1 ' .. who)
tally('redeemed', 1)
return {1, who, call('ZSCORE', ADMITTED, ticket) or issued}
