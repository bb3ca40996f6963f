-- All there is to say about an event, for its operators. Changes nothing.
-- include: basics, event, keys, openings
-- KEYS     as keys
-- ARGV     as event
-- Returns  1 if it is declared, 1 if it has a state, log entries, called, absent, admitted (recent), burst in
--          force, pass_ttl in ms, totals (joined, admitted, redeemed, left, expired, stepped_aside), standing, how many
--          are inside, max_active ('' for none), session_ttl in ms, session_limit in ms ('' for none)
-- Complexity O(1)
local event, refused = load_event()
if refused then return refused end

load_sessions(event)
local totals = call('HMGET', STATE, 'joined', 'admitted', 'redeemed', 'left', 'expired', 'stepped_aside')
for i = 1, 6 do totals[i] = tonumber(totals[i] or 0) end
return {
  call('EXISTS', CONFIG), call('EXISTS', STATE), event.logged, event.called, event.absent, call('ZCARD', ADMITTED),
  format('%.6g', event.capacity), int(event.pass_ttl), totals, standing(event),
  event.inside, event.max_active and int(event.max_active) or '', int(event.session_ttl),
  event.session_limit and int(event.session_limit) or '',
}
