#!lua
-- take_seats: who may hold one more socket in a room; over all processes a viewer has so many at most.
-- KEYS[1] seats  hash  viewer|process -> sockets of the viewer in that process
-- ARGV[1] msgpack [process, the processes that live, sockets a viewer may hold, viewers who gave a seat back, viewers who ask for one]
-- Returns an array, 1 (taken) or 0 for each who asks, in their order.
local seats, KEEP_S = KEYS[1], 604800
local process, lives, most, left, asking = unpack(cmsgpack.unpack(ARGV[1]))
for i = 1, #left do
  local field = left[i] .. '|' .. process
  if redis.call('HINCRBY', seats, field, -1) <= 0 then redis.call('HDEL', seats, field) end
end
local taken = {}
for i = 1, #asking do
  local fields = { asking[i] .. '|' .. process }
  for j = 1, #lives do
    if lives[j] ~= process then fields[#fields + 1] = asking[i] .. '|' .. lives[j] end
  end
  local held = 0
  for _, count in ipairs(redis.call('HMGET', seats, unpack(fields))) do held = held + tonumber(count or 0) end
  taken[i] = held < most and 1 or 0
  if taken[i] == 1 then redis.call('HINCRBY', seats, fields[1], 1) end
end
redis.call('EXPIRE', seats, KEEP_S)
return taken
