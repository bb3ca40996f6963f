-- Lets somebody in who never stood in line, because nobody does and there is an opening. Their entry is logged and
-- deleted, so that the log remembers the ticket as given.
-- include: basics, door, event, keys, log, openings, pruning, sessions, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 during door grace, else 0; who comes, as in enqueue
-- Returns  their ticket, when they were let in and until when their pass is good in ms; or nothing: then they wait
-- Complexity O(log N), and at most 100 sessions pruned
local event, refused = load_event()
if refused then return refused end
local grace, who = ARGV[STEP] == '1', ARGV[STEP + 1]

local may_enter = event.waiting == 0 and not event.damaged and not event.paused and call('EXISTS', CONFIG) == 1
-- A verified user who has a place has it, and no second one.
if may_enter and string.sub(who, 1, 1) == 'v' then
  may_enter = not call('HGET', PLACES, string.sub(who, 2))
end
if may_enter and event.max_active then prune_sessions(event, sessions_are_held(event, grace)) end
if not may_enter or floor(openings(event)) <= load_door(event).fresh_calls then
  save_state(event)
  return false
end

if event.is_new then begin_event(event) end
local now, last = event.session_now, max(event.now_us, (event.state.last or 0) + 1)
local ticket = int(last)
call('XADD', LOG, entry_id(last), 'u', who)
call('XDEL', LOG, entry_id(last))
set_state(event, 'last', last)
take_tokens(event, 1)
local good_until = within_session_limit(event, now, now + event.pass_ttl)
admit(event, {ticket}, {who}, good_until)
save_state(event)
add_to_total('joined', 1)
add_to_total('admitted', 1)
return {ticket, int(now), int(good_until)}
