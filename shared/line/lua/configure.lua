-- Changes an event's settings; what the bucket gathered until now was gathered at the old rate.
-- include: basics, event, keys, state
-- KEYS     as keys
-- ARGV     as event, then from STEP pairs of field and value
-- Returns  0
-- Complexity O(1)
local event, refused = load_event()
if refused then return refused end

if event.state.last then
  take_tokens(event, 0)
  -- What was measured under other settings says nothing about these.
  call('HDEL', STATE, 'rates')
  save_state(event)
end
call('HSET', CONFIG, unpack(ARGV, STEP))
return 0
