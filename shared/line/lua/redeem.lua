-- Redeems a reservation, once, and its holder has arrived; the same key (a retry, after a lost reply) is given the same answer.
-- include: basics, codes, event, keys, reservation, sessions, state
-- KEYS     as keys
-- ARGV     as event, then STEP ticket, the reservation's time of issue in ms and the digest of an Idempotency-Key ('' none)
-- Returns  code (RedeemCode), who was admitted, time of the grant in ms
-- Complexity O(log N)
local event, refused = load_event()
if refused then return refused end
local ticket, issue, key = unpack(ARGV, STEP, STEP + 2)
local now = event.session_now

local issued, redeemed, redeemed_by, who = read_reservation(ticket)
if redeemed and (key == '' or key ~= redeemed_by) then return {REDEEM_ALREADY_REDEEMED, '', 0} end
if not redeemed then
  if issued ~= tonumber(issue) or now - issued >= event.pass_ttl then return {REDEEM_EXPIRED, '', 0} end
  local entered = tonumber(call('ZSCORE', ADMITTED, ticket) or issued)
  local good_until = within_session_limit(event, entered, now + event.session_ttl)
  if not keep_session(event, ticket, good_until, true) then return {REDEEM_EXPIRED, '', 0} end
  save_state(event)
  redeem_reservation(ticket, issued, key, who)
  add_to_total('redeemed', 1)
end
return {REDEEM_REDEEMED, who, call('ZSCORE', ADMITTED, ticket) or int(issued)}
