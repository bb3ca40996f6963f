-- Declares the log in need of being written anew from the members of the line (an operator's decision).
-- include: event
-- KEYS     as event
-- ARGV     as event
-- Returns  1 if the line is damaged and now waits for it, else 0
-- Complexity O(1)
if not damaged then return 0 end
set('relog', 1)
save()
return 1
