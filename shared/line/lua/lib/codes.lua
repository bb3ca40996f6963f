-- The codes with which steps answer. They mean what the IntEnums of the same names in shared/line/replies.py say.
-- KEYS     none
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)
local ENQUEUE_LOG_LOST, ENQUEUE_NO_EVENT, ENQUEUE_DONE = -1, 0, 1
local JOIN_KEY_REUSED, JOIN_NEW, JOIN_IN_LINE, JOIN_ADMITTED, JOIN_PLACE_UNKNOWN = 0, 1, 2, 3, 4
local POLL_GONE, POLL_WAITING, POLL_READY, POLL_ADMITTED = 0, 1, 2, 3
local ENTER_GONE, ENTER_NOT_READY, ENTER_GRANTED, ENTER_ALREADY_REDEEMED, ENTER_PAUSED = 0, 1, 2, 3, 4
local REDEEM_EXPIRED, REDEEM_REDEEMED, REDEEM_ALREADY_REDEEMED = 0, 1, 2
local RELOG_INCOMPLETE, RELOG_NOT_LOST, RELOG_WRITTEN, RELOG_DONE = -1, 0, 1, 2
