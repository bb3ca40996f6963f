-- Changes an event's settings; what the bucket gathered until now was gathered at the old rate.
-- include: event
-- KEYS     as event
-- ARGV     as event, then from STEP pairs of field and value
-- Returns  0
-- Complexity O(1)
if state.last then
  spend(0)
  -- What was measured under other settings says nothing about these.
  call('HDEL', STATE, 'rates')
  set('eta_rate', 0)
  save()
end
call('HSET', CONFIG, unpack(ARGV, STEP))
return 0
