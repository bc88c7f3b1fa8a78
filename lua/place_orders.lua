#!lua
-- place_orders: decide a group of orders of one sale, each at most once per idempotency key.
-- KEYS[1] shard    hash    epoch, seq, applied (sequence number the ledger has), open, opens_up_to (there while clocks
--                           are not trusted: ms; a sale that opens later does not open)
-- KEYS[2] sale     hash    hold, opens_at, closes_at, and per item no: price, limit, left, held; plan (there with a price
--                           plan: 'from ms:price;...' ascending), floor (there with one: the least price of a unit)
-- KEYS[3] answers  hash    viewer|key -> fingerprint|epoch|seq|at ms|price of the order that the key holds, and |discount
--                           where it has one
-- KEYS[4] units    hash    viewer|item no -> units of the viewer's live orders
-- KEYS[5] stream   stream  one entry a group, id epoch-last, field o = msgpack [kind, sale no, at ms, first, orders]
-- KEYS[6..] two keys a coupon that the group names:
--   coupon   hash    kind, value, percent, threshold, valid_until, currency, sales
--   claims   hash    epoch|seq of the claim -> value|holder|viewer; holder: epoch:seq of the order that redeems it, or ''
-- ARGV[1] epoch  ARGV[2] highest sequence number seen  ARGV[3] largest backlog (sequence numbers the ledger may be behind)
-- ARGV[4] sale no  ARGV[5] msgpack array of requests
--         [viewer, key, fingerprint, item no, quantity, expected amount or -1, extra, decide until ms] and, with a claim,
--         [.., place of the coupon's first key in KEYS, epoch|seq of the claim, coupon no]
-- ARGV[6] currency of the sale
-- Returns a msgpack array [state of the shard, epoch, seq, now ms, answers]; answers only when the state is open:
--   open | closed (not loaded, or loading) | epoch (another one) | behind (seq under what was seen) | unloaded (no such sale)
-- One answer a request, an array that begins with its word; nothing is written for any but reserved:
--   reserved seq price | replayed epoch seq at_ms price | key_reused | late | sold_out left may_return | limit_reached
--   not_started opens_at | ended | paused | price_changed price | backlog (the ledger is too far behind)
--   coupon_unusable (no claim of the viewer's, in use, expired, not for this order, or it takes nothing off)
-- Behind the price stands the discount, where a coupon takes something off; so it does behind the extra of an order in the
-- entry, with coupon no and epoch|seq of the claim behind it.
-- Commands a call: TIME, four reads, five writes, whatever the size of the group; a read more where it names coupons, and
-- two reads and a write of each coupon.
local shard, sale, answers, units, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local epoch, seen, backlog = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'applied', 'open', 'opens_up_to')
local seq = tonumber(facts[2] or 0)
if facts[4] ~= '1' then return cmsgpack.pack({ 'closed', tonumber(facts[1] or 0), seq, now, {} }) end
if facts[1] ~= epoch then return cmsgpack.pack({ 'epoch', tonumber(facts[1]), seq, now, {} }) end
if seq < seen then return cmsgpack.pack({ 'behind', tonumber(epoch), seq, now, {} }) end

local requests = cmsgpack.unpack(ARGV[5])
local count = #requests

-- What the group needs to know, each kind in one command.
local answer_fields, unit_fields = {}, {}
local sale_fields, place = { 'hold', 'opens_at', 'closes_at' }, {}
local coupons, named
for i = 1, count do
  local request = requests[i]
  local viewer, item = request[1], request[4]
  answer_fields[i] = viewer .. '|' .. request[2]
  unit_fields[i] = viewer .. '|' .. item
  if not place[item] then
    local at = #sale_fields
    place[item] = at
    sale_fields[at + 1] = item .. ':price'
    sale_fields[at + 2] = item .. ':limit'
    sale_fields[at + 3] = item .. ':left'
    sale_fields[at + 4] = item .. ':held'
    sale_fields[at + 5] = item .. ':plan'
  end
  local coupon_place = request[9]
  if coupon_place then
    if not coupons then coupons, named = {}, {} end
    local coupon = coupons[coupon_place]
    if not coupon then
      coupon = { fields = {}, claims = {}, writes = {} }
      coupons[coupon_place] = coupon
      named[#named + 1] = coupon_place
    end
    coupon.fields[#coupon.fields + 1] = request[10]
  end
end
local offer = redis.call('HMGET', sale, unpack(sale_fields))
if not offer[1] then return cmsgpack.pack({ 'unloaded', tonumber(epoch), seq, now, {} }) end
local known = redis.call('HMGET', answers, unpack(answer_fields))
local had = redis.call('HMGET', units, unpack(unit_fields))

local closed
if offer[1] == 'closed' or now >= tonumber(offer[3]) then closed = { 'ended' }
elseif offer[1] == 'paused' then closed = { 'paused' }
elseif now < tonumber(offer[2]) or facts[5] and tonumber(offer[2]) > tonumber(facts[5]) then
  closed = { 'not_started', tonumber(offer[2]) }
end
-- A full backlog refuses new orders but still gives answers already given.
local full = seq - tonumber(facts[3] or 0) + count > backlog

-- The units as they stand inside this group, and the answers given inside it.
local price, limit, left, held = {}, {}, {}, {}
for item, at in pairs(place) do
  if not offer[at + 1] then return redis.error_reply('UNKNOWN_ITEM ' .. item) end
  price[item], limit[item] = tonumber(offer[at + 1]), tonumber(offer[at + 2])
  left[item], held[item] = tonumber(offer[at + 3]), tonumber(offer[at + 4])
  if offer[at + 5] then
    for from, step in offer[at + 5]:gmatch('(%d+):(%d+)') do
      if now < tonumber(from) then break end
      price[item] = tonumber(step)
    end
  end
end

-- What a claim takes off the order of a request; 0: it cannot be used for it.
local discount_of
if coupons then
  local floor_fields, floor = {}, {}
  for item in pairs(place) do floor_fields[#floor_fields + 1] = item .. ':floor' end
  local floors = redis.call('HMGET', sale, unpack(floor_fields))
  for i, field in ipairs(floor_fields) do floor[field] = tonumber(floors[i] or 0) end
  for _, at in ipairs(named) do
    local coupon = coupons[at]
    local terms = redis.call('HMGET', KEYS[at], 'kind', 'value', 'percent', 'threshold', 'valid_until', 'currency', 'sales')
    coupon.good = terms[1] and now < tonumber(terms[5]) and terms[6] == ARGV[6]
        and (terms[7] == '' or terms[7]:find(',' .. ARGV[4] .. ',', 1, true))
    coupon.kind, coupon.value = terms[1], tonumber(terms[2] or 0)
    coupon.percent, coupon.threshold = tonumber(terms[3] or 0), tonumber(terms[4] or 0)
    local found = redis.call('HMGET', KEYS[at + 1], unpack(coupon.fields))
    for i, field in ipairs(coupon.fields) do
      if found[i] then
        local value, holder, viewer = found[i]:match('^(%d+)|([^|]*)|(.*)$')
        coupon.claims[field] = { value = value, holder = holder, viewer = viewer }
      end
    end
  end
  discount_of = function(request, amount)
    local coupon = coupons[request[9]]
    local claim = coupon.claims[request[10]]
    if not coupon.good or not claim or claim.holder ~= '' or claim.viewer ~= request[1] then return 0 end
    if amount < coupon.threshold then return 0 end
    local off
    if coupon.kind == 'percent' then
      -- The amount times the percentage may not fit into a number.
      local rest = math.fmod(amount, 100)
      off = (amount - rest) / 100 * coupon.percent + math.floor(rest * coupon.percent / 100)
    else
      off = coupon.kind == 'amount' and coupon.value or tonumber(claim.value)
    end
    return math.max(0, math.min(off, amount - math.max(floor[request[4] .. ':floor'] * request[5], 1)))
  end
end
local given, owned = {}, {}
local results, accepted = {}, {}
local new_answers, first = {}, seq + 1

for i = 1, count do
  local request = requests[i]
  local item, quantity = request[4], request[5]
  local field, unit_field = answer_fields[i], unit_fields[i]
  local earlier = given[field] or known[i]
  local result
  if earlier then
    local fingerprint, of_epoch, of_seq, at_ms, of_price, off = earlier:match(
      '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|?(%d*)$')
    if fingerprint ~= request[3] then
      result = { 'key_reused' }
    else
      result = { 'replayed', tonumber(of_epoch), tonumber(of_seq), tonumber(at_ms), tonumber(of_price), tonumber(off) }
    end
  elseif now > request[8] then
    result = { 'late' }
  elseif closed then
    result = closed
  else
    -- With a claim `discount` is there; at 0 it cannot be used, and the viewer is told so rather than another price.
    local amount, discount = price[item] * quantity, nil
    if request[9] then
      discount = discount_of(request, amount)
      amount = amount - discount
    end
    local mine = owned[unit_field] or tonumber(had[i] or 0)
    if request[6] >= 0 and request[6] ~= amount and discount ~= 0 then
      result = { 'price_changed', price[item], discount }
    elseif mine + quantity > limit[item] then
      result = { 'limit_reached' }
    elseif left[item] < quantity then
      result = { 'sold_out', left[item], held[item] > 0 and 1 or 0 }
    elseif discount == 0 then
      result = { 'coupon_unusable' }
    elseif full then
      result = { 'backlog' }
    else
      seq = seq + 1
      left[item], held[item] = left[item] - quantity, held[item] + quantity
      owned[unit_field] = mine + quantity
      local answer = request[3] .. '|' .. epoch .. '|' .. string.format('%d|%d|%d', seq, now, price[item])
      request[6], request[8] = price[item], nil
      if discount then
        local coupon, claim_field = coupons[request[9]], request[10]
        local claim = coupon.claims[claim_field]
        claim.holder = epoch .. ':' .. string.format('%d', seq)
        coupon.writes[#coupon.writes + 1] = claim_field
        coupon.writes[#coupon.writes + 1] = claim.value .. '|' .. claim.holder .. '|' .. claim.viewer
        answer = answer .. '|' .. string.format('%d', discount)
        request[8], request[9], request[10], request[11] = discount, request[11], claim_field, nil
      end
      given[field] = answer
      new_answers[#new_answers + 1] = field
      new_answers[#new_answers + 1] = answer
      accepted[#accepted + 1] = request
      result = { 'reserved', seq, price[item], discount }
    end
  end
  results[i] = result
end

if #accepted > 0 then
  local new_units, new_counts = {}, {}
  for field, value in pairs(owned) do
    new_units[#new_units + 1] = field
    new_units[#new_units + 1] = value
  end
  for item, at in pairs(place) do
    new_counts[#new_counts + 1] = sale_fields[at + 3]
    new_counts[#new_counts + 1] = left[item]
    new_counts[#new_counts + 1] = sale_fields[at + 4]
    new_counts[#new_counts + 1] = held[item]
  end
  -- The entry first: of all the writes it alone could be refused (an id not past the last one), and then nothing happened.
  local entry = cmsgpack.pack({ 'orders', tonumber(ARGV[4]), now, first, accepted })
  redis.call('XADD', stream, epoch .. '-' .. string.format('%d', seq), 'o', entry)
  redis.call('HSET', shard, 'seq', string.format('%d', seq))
  redis.call('HSET', sale, unpack(new_counts))
  redis.call('HSET', units, unpack(new_units))
  redis.call('HSET', answers, unpack(new_answers))
  if named then
    for _, at in ipairs(named) do
      if #coupons[at].writes > 0 then redis.call('HSET', KEYS[at + 1], unpack(coupons[at].writes)) end
    end
  end
end
return cmsgpack.pack({ 'open', tonumber(epoch), seq, now, results })
