-- Writes a lost log back from the members of the line: append them in ticket order, then finish.
-- include: event
-- KEYS     as event
-- ARGV     as event, then STEP 1 to begin anew, 2 to finish, else 0; then pairs of ticket and who, rising
-- Returns  code (0 the log is not lost, 1 written, 2 the log is whole again, -1 somebody is missing: begin anew)
-- Complexity O(log N) a pair
if not log_lost then return 0 end
if ARGV[STEP] == '1' then call('UNLINK', REBUILD) end
local last = 0
if call('EXISTS', REBUILD) == 1 then
  local top = call('XREVRANGE', REBUILD, '+', '-', 'COUNT', 1)[1]
  if top then
    local ms, seq = string.match(top[1], '^(%d+)-(%d+)$')
    last = ms * 1000 + seq
  end
end
for i = STEP + 1, #ARGV, 2 do
  local ticket = ARGV[i]
  if tonumber(ticket) > last and (call('ZSCORE', LINE, ticket) or call('ZSCORE', CALLED, ticket)
      or call('ZSCORE', ABSENT, ticket)) then
    call('XADD', REBUILD, entry_id(ticket), 'u', ARGV[i + 1])
  end
end
if ARGV[STEP] ~= '2' then return 1 end
if call('XLEN', REBUILD) ~= members then return -1 end
-- Tickets already given stay given, also those of people who left.
local newest = max(last_logged() or 0, state.last or 0)
call('UNLINK', LOG)
if members > 0 then
  call('RENAME', REBUILD, LOG)
  if newest > last_logged() then call('XSETID', LOG, entry_id(newest)) end
end
set('relog', 0)
save()
return 2
