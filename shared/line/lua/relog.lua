-- Writes a lost log back from the members of the line: append them in ticket order, then finish.
-- include: basics, codes, event, keys, log, members, state
-- KEYS     as keys
-- ARGV     as event, then STEP 1 to begin anew, 2 to finish, else 0; then pairs of ticket and who, rising
-- Returns  code (RelogCode)
-- Complexity O(log N) a pair
local event, refused = load_event()
if refused then return refused end
local begin, finish = ARGV[STEP] == '1', ARGV[STEP] == '2'

if not event.log_lost then return RELOG_NOT_LOST end
if begin then call('UNLINK', REBUILD) end
local newest = call('XREVRANGE', REBUILD, '+', '-', 'COUNT', 1)[1]
local last = newest and ticket_of(newest[1]) or 0
for i = STEP + 1, #ARGV, 2 do
  local ticket, who = ARGV[i], ARGV[i + 1]
  if tonumber(ticket) > last and is_member(ticket) then call('XADD', REBUILD, entry_id(ticket), 'u', who) end
end
if not finish then return RELOG_WRITTEN end
if call('XLEN', REBUILD) ~= event.members then return RELOG_INCOMPLETE end
-- Tickets already given stay given, also those of people who left.
local last_given = max(last_logged() or 0, event.state.last or 0)
call('UNLINK', LOG)
if event.members > 0 then
  call('RENAME', REBUILD, LOG)
  if last_given > last_logged() then call('XSETID', LOG, entry_id(last_given)) end
end
-- If the state was lost too, the rebuilt log alone knows the newest ticket.
set_state(event, 'last', max(last_given, last_logged() or 0))
set_state(event, 'relog', 0)
save_state(event)
return RELOG_DONE
