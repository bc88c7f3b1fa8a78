#!lua flags=no-writes
-- where_rooms: where rooms stand, so that a process finds out what it was not told.
-- KEYS[1..] rooms  hashes  epoch, seq, rules
-- Returns a flat array of three numbers a room: epoch (0: this server does not have it), seq, rules
local where = {}
for i = 1, #KEYS do
  local facts = redis.call('HMGET', KEYS[i], 'epoch', 'seq', 'rules')
  for j = 1, 3 do where[#where + 1] = tonumber(facts[j] or 0) end
end
return where
