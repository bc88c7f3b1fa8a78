#!lua
-- release_orders: give back the units of orders that the ledger ended, each exactly once.
-- KEYS[1] shard    hash  epoch, released (number of the last outbox row applied)
-- KEYS[2..] three keys a sale named in the rows:
--   sale     hash  per item no: left, held
--   answers  hash  viewer|key -> fingerprint|epoch|seq|at ms|price
--   units    hash  viewer|item no -> units of the viewer's live orders
-- ARGV[1] epoch  ARGV[2] msgpack array of outbox rows, by number without a gap
--         [number, place of the sale's first key in KEYS, item no, viewer, key or '', epoch, seq, quantity]
-- Returns [word, number of the last row applied]:
--   released | epoch (the shard is of another one) | gap (rows between the last one applied and these are missing)
-- The number is the fence: rows at or under it change nothing, so a repeat after a lost reply is harmless.
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'released')
local released = tonumber(facts[2] or 0)
if facts[1] ~= ARGV[1] then return { 'epoch', released } end
local rows = cmsgpack.unpack(ARGV[2])
if #rows > 0 and rows[1][1] > released + 1 then return { 'gap', released } end
-- A key of a wrong type fails here, before the first write.
for place = 2, #KEYS do redis.call('HEXISTS', KEYS[place], '') end
for _, row in ipairs(rows) do
  local no, place, item, viewer, key, quantity = row[1], row[2], row[3], row[4], row[5], row[8]
  if no > released then
    local sale, answers, units = KEYS[place], KEYS[place + 1], KEYS[place + 2]
    -- A sale that is not there any more was retired; nothing is counted for it.
    if redis.call('HEXISTS', sale, item .. ':left') == 1 then
      redis.call('HINCRBY', sale, item .. ':left', quantity)
      redis.call('HINCRBY', sale, item .. ':held', -quantity)
      local field = viewer .. '|' .. item
      if redis.call('HINCRBY', units, field, -quantity) <= 0 then redis.call('HDEL', units, field) end
      -- The key is free again only if it is this order that holds it.
      local memory = viewer .. '|' .. key
      local answer = redis.call('HGET', answers, memory)
      if answer and answer:find('|' .. string.format('%d|%d', row[6], row[7]) .. '|', 1, true) then
        redis.call('HDEL', answers, memory)
      end
    end
    released = no
  end
end
redis.call('HSET', shard, 'released', string.format('%d', released))
return { 'released', released }
