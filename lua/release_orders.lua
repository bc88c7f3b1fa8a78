#!lua
-- release_orders: bring what the ledger made of orders to Valkey, each row of its outbox exactly once.
-- KEYS[1] shard    hash  epoch, released (number of the last outbox row applied)
-- KEYS[2..] three keys a sale named in the rows:
--   sale     hash  per item no: left, held
--   answers  hash  viewer|key -> fingerprint|epoch|seq|at ms|price
--   units    hash  viewer|item no -> units of the viewer's live orders
-- ARGV[1] epoch  ARGV[2] msgpack array of outbox rows, by number without a gap
--         [number, place of the sale's first key in KEYS, item no, viewer, key or '', epoch, seq, quantity, kind]
--         kind: refuse  (units back to sell, not held; the key is free again if it is this order that holds it)
--               release (units back to sell, not held) | paid (not held) | return (units back to sell; they were not held)
-- Returns [word, number of the last row applied]:
--   released | epoch (the shard is of another one) | gap (rows between the last one applied and these are missing)
-- The number is the fence: rows at or under it change nothing, so a repeat after a lost reply is harmless. Commands a call:
-- two, and six a sale, whatever the number of rows.
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'released')
local released = tonumber(facts[2] or 0)
if facts[1] ~= ARGV[1] then return { 'epoch', released } end
local rows = cmsgpack.unpack(ARGV[2])
if #rows > 0 and rows[1][1] > released + 1 then return { 'gap', released } end

-- What the rows come to, sale by sale: units to sell and held an item, units a viewer, keys to be freed.
local sales, order = {}, {}
for _, row in ipairs(rows) do
  local no, place, item, viewer, key, quantity, kind = row[1], row[2], row[3], row[4], row[5], row[8], row[9]
  if no > released then
    local sale = sales[place]
    if not sale then
      sale = { counters = {}, more = {}, viewers = {}, fewer = {}, keys = {}, holders = {} }
      sales[place] = sale
      order[#order + 1] = place
    end
    local function add(field, units)
      if not sale.more[field] then sale.counters[#sale.counters + 1] = field end
      sale.more[field] = (sale.more[field] or 0) + units
    end
    if kind ~= 'return' then add(item .. ':held', -quantity) end
    if kind ~= 'paid' then
      add(item .. ':left', quantity)
      local field = viewer .. '|' .. item
      if not sale.fewer[field] then sale.viewers[#sale.viewers + 1] = field end
      sale.fewer[field] = (sale.fewer[field] or 0) + quantity
    end
    if kind == 'refuse' then
      sale.keys[#sale.keys + 1] = viewer .. '|' .. key
      sale.holders[#sale.keys] = '|' .. string.format('%d|%d', row[6], row[7]) .. '|'
    end
    released = no
  end
end

-- Read all of it, then write: a key of a wrong type fails before the first write.
local writes = {}
for _, place in ipairs(order) do
  local sale = sales[place]
  local counters = redis.call('HMGET', KEYS[place], unpack(sale.counters))
  local answers, units = {}, {}
  if #sale.keys > 0 then answers = redis.call('HMGET', KEYS[place + 1], unpack(sale.keys)) end
  if #sale.viewers > 0 then units = redis.call('HMGET', KEYS[place + 2], unpack(sale.viewers)) end
  local set, had, gone, free = {}, {}, {}, {}
  for i, field in ipairs(sale.counters) do
    -- A sale that is not there any more was retired; nothing is counted for it.
    if counters[i] then
      set[#set + 1] = field
      set[#set + 1] = string.format('%d', tonumber(counters[i]) + sale.more[field])
    end
  end
  if #set > 0 then
    for i, field in ipairs(sale.viewers) do
      local left = tonumber(units[i] or 0) - sale.fewer[field]
      if left > 0 then
        had[#had + 1] = field
        had[#had + 1] = string.format('%d', left)
      else
        gone[#gone + 1] = field
      end
    end
    for i, field in ipairs(sale.keys) do
      if answers[i] and answers[i]:find(sale.holders[i], 1, true) then free[#free + 1] = field end
    end
  end
  writes[#writes + 1] = { 'HSET', KEYS[place], set }
  writes[#writes + 1] = { 'HSET', KEYS[place + 2], had }
  writes[#writes + 1] = { 'HDEL', KEYS[place + 2], gone }
  writes[#writes + 1] = { 'HDEL', KEYS[place + 1], free }
end
for _, write in ipairs(writes) do
  if #write[3] > 0 then redis.call(write[1], write[2], unpack(write[3])) end
end
redis.call('HSET', shard, 'released', string.format('%d', released))
return { 'released', released }
