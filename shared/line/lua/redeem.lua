-- Redeems a reservation, once, and its holder has arrived; the same key (a retry, after a lost reply) is given the same answer.
-- include: basics, codes, event, keys, openings, reservation, sessions, state
-- KEYS     as keys
-- ARGV     as event, then STEP ticket, the reservation's time of issue in ms and the digest of an Idempotency-Key ('' none)
-- Returns  code (RedeemCode), who was admitted, time of the grant in ms, from when and until when they may stay in ms;
--          0 if their session is over
-- Complexity O(log N)
local event, refused = load_event()
if refused then return refused end
local ticket, issue, key = unpack(ARGV, STEP, STEP + 2)
local now = event.session_now

local function refuse(code) return {code, '', 0, 0, 0} end

local issued, redeemed, redeemed_by, who = read_reservation(ticket)
if redeemed and (key == '' or key ~= redeemed_by) then return refuse(REDEEM_ALREADY_REDEEMED) end
if not redeemed then
  if issued ~= tonumber(issue) or now - issued >= event.pass_ttl then return refuse(REDEEM_EXPIRED) end
  local entered = tonumber(call('ZSCORE', ADMITTED, ticket) or issued)
  local good_until = within_session_limit(event, entered, now + event.session_ttl)
  if not keep_session(event, ticket, good_until, true) then return refuse(REDEEM_EXPIRED) end
  save_state(event)
  redeem_reservation(ticket, issued, key, who)
  add_to_total('redeemed', 1)
end
local granted = call('ZSCORE', ADMITTED, ticket) or int(issued)
local ends = call('ZSCORE', SESSIONS, ticket)
local good_until = ends and ends - SESSION_SLACK
if not ends or good_until <= now or call('ZSCORE', ENDED, ticket) then return {REDEEM_REDEEMED, who, granted, 0, 0} end
-- The same however often it is asked for. The TTL may have become shorter since.
local since = min(event.now, good_until - event.session_ttl)
return {REDEEM_REDEEMED, who, granted, int(since), int(good_until)}
