#!lua
-- release_orders: bring what the ledger made of orders to Valkey, each row of its outbox exactly once.
-- KEYS[1] shard    hash  epoch, released (number of the last outbox row applied)
-- KEYS[2..] three keys a sale named in the rows, and four a coupon:
--   sale     hash  per item no: left, held
--   answers  hash  viewer|key -> fingerprint|epoch|seq|at ms|price, and |discount
--   units    hash  viewer|item no -> units of the viewer's live orders
--   coupon   hash  kind, left, budget_left
--   answers  hash  viewer|key -> epoch|seq|at ms|value of the claim
--   viewers  hash  viewer -> claims the viewer has
--   claims   hash  epoch|seq of the claim -> value|holder|viewer; holder: epoch:seq of the order that redeems it, or ''
-- ARGV[1] epoch  ARGV[2] msgpack array of outbox rows, by number without a gap
--         [number, place of the sale's first key in KEYS, item no, viewer, key or '', epoch, seq, quantity, kind] and, with
--         a claim, [.., place of the coupon's first key in KEYS, epoch|seq of the claim]
--         kind: refuse  (units back to sell, not held; the key is free again if it is this order that holds it)
--               release (units back to sell, not held) | paid (not held) | return (units back to sell; they were not held)
--               unclaim (the copy goes back, and the claim is gone; place, item no and quantity are 0, epoch and seq the
--                       claim's; its key is free again if it is this claim that holds it)
--         refuse, release and return let go of the claim, if it is this order (epoch, seq) that holds it.
-- Returns [word, number of the last row applied]:
--   released | epoch (the shard is of another one) | gap (rows between the last one applied and these are missing)
-- The number is the fence: rows at or under it change nothing, so a repeat after a lost reply is harmless. Commands a call:
-- two, six a sale and ten a coupon, whatever the number of rows.
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'released')
local released = tonumber(facts[2] or 0)
if facts[1] ~= ARGV[1] then return { 'epoch', released } end
local rows = cmsgpack.unpack(ARGV[2])
if #rows > 0 and rows[1][1] > released + 1 then return { 'gap', released } end

-- What the rows come to, sale by sale: units to sell and held an item, units a viewer, keys to be freed. Of a coupon: the
-- rows that change it, and what they name.
local sales, order = {}, {}
local coupons, named = {}, {}
local function add_to_coupon(row)
  local at = row[10]
  local coupon = coupons[at]
  if not coupon then
    coupon = { rows = {}, fields = {}, viewers = {}, keys = {} }
    coupons[at] = coupon
    named[#named + 1] = at
  end
  coupon.rows[#coupon.rows + 1] = row
  coupon.fields[#coupon.rows] = row[11]
  coupon.viewers[#coupon.rows] = row[4]
  coupon.keys[#coupon.rows] = row[4] .. '|' .. row[5]
end
for _, row in ipairs(rows) do
  local no, place, item, viewer, key, quantity, kind = row[1], row[2], row[3], row[4], row[5], row[8], row[9]
  if no > released and row[10] and kind ~= 'paid' then add_to_coupon(row) end
  if no > released and kind ~= 'unclaim' then
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
  end
  released = math.max(released, no)
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
for _, at in ipairs(named) do
  local coupon = coupons[at]
  local terms = redis.call('HMGET', KEYS[at], 'kind', 'left', 'budget_left')
  local answers = redis.call('HMGET', KEYS[at + 1], unpack(coupon.keys))
  local had = redis.call('HMGET', KEYS[at + 2], unpack(coupon.viewers))
  local found = redis.call('HMGET', KEYS[at + 3], unpack(coupon.fields))
  -- What changes, as it stands after each row; a claim that is gone is false.
  local claims, viewers, free, back = {}, {}, {}, 0
  local budget = tonumber(terms[3] or 0)
  for i, row in ipairs(coupon.rows) do
    local field, viewer = row[11], row[4]
    local claim = claims[field]
    if claim == nil then claim = found[i] end
    local value, holder, whose = (claim or ''):match('^(%d+)|([^|]*)|(.*)$')
    if value and row[9] == 'unclaim' then
      claims[field], back = false, back + 1
      viewers[viewer] = (viewers[viewer] or tonumber(had[i] or 0)) - 1
      if terms[1] == 'random' then budget = budget + tonumber(value) end
      if answers[i] and answers[i]:sub(1, #field + 1) == field .. '|' then free[#free + 1] = coupon.keys[i] end
    elseif value and holder == string.format('%d:%d', row[6], row[7]) then
      claims[field] = value .. '||' .. whose
    end
  end
  -- A coupon that is not there any more was retired.
  if terms[1] then
    local set, gone, has, none, counts = {}, {}, {}, {}, {}
    for field, claim in pairs(claims) do
      if claim then
        set[#set + 1] = field
        set[#set + 1] = claim
      else
        gone[#gone + 1] = field
      end
    end
    for viewer, number in pairs(viewers) do
      if number > 0 then
        has[#has + 1] = viewer
        has[#has + 1] = string.format('%d', number)
      else
        none[#none + 1] = viewer
      end
    end
    if back > 0 then
      counts = { 'left', string.format('%d', tonumber(terms[2]) + back), 'budget_left', string.format('%d', budget) }
    end
    writes[#writes + 1] = { 'HSET', KEYS[at], counts }
    writes[#writes + 1] = { 'HDEL', KEYS[at + 1], free }
    writes[#writes + 1] = { 'HSET', KEYS[at + 2], has }
    writes[#writes + 1] = { 'HDEL', KEYS[at + 2], none }
    writes[#writes + 1] = { 'HSET', KEYS[at + 3], set }
    writes[#writes + 1] = { 'HDEL', KEYS[at + 3], gone }
  end
end
for _, write in ipairs(writes) do
  if #write[3] > 0 then redis.call(write[1], write[2], unpack(write[3])) end
end
redis.call('HSET', shard, 'released', string.format('%d', released))
return { 'released', released }
