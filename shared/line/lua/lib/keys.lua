-- Names for the keys of an event.
-- KEYS     the event's keys in the order of EventKeys (shared/line/keys.py)
-- ARGV     none
-- Returns  nothing: it defines
-- Complexity O(1)
local LOG, REBUILD, LINE, ABSENT, CALLED, HEARTBEAT, PLACES, DEDUPE_NEW, DEDUPE_OLD, ADMITTED, PASSES, STATE,
  CONFIG, INDEX, SESSIONS, ENDED, INSIDERS = unpack(KEYS)
