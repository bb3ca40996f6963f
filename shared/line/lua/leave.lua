-- Takes a batch of tickets out of the line, and cancels their reservations that nobody has redeemed.
-- include: event, depart
-- KEYS     as event
-- ARGV     as event, then from STEP the tickets
-- Returns  how many left
-- Complexity O(log N) a ticket
local left = 0
for i = STEP, #ARGV do
  local ticket = ARGV[i]
  local was_logged = depart(ticket)
  local pass = call('HGET', PASSES, ticket)
  if pass and string.match(pass, '^%d+ 0 ') then
    call('HDEL', PASSES, ticket)
    call('ZREM', ADMITTED, ticket)
    was_logged = true
  end
  if was_logged then left = left + 1 end
end
save()
tally('left', left)
return left
