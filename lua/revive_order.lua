#!lua
-- revive_order: take units for an expired order whose money came late, once per payment; they are sold at once.
-- KEYS[1] shard   hash    epoch, seq, open
-- KEYS[2] sale    hash    per item no: limit, left
-- KEYS[3] units   hash    viewer|item no -> units of the viewer's live orders
-- KEYS[4] late    hash    payment no -> epoch|seq of the entry that took units for it
-- KEYS[5] stream  stream  field o = msgpack ['late', sale no, at ms, seq, payment no, item no, viewer, quantity, order id]
-- KEYS[6] claims  hash    of the coupon, where the order redeems a claim: epoch|seq of the claim -> value|holder|viewer
-- ARGV[1] epoch  ARGV[2] sale no  ARGV[3] payment no  ARGV[4] item no  ARGV[5] viewer  ARGV[6] quantity  ARGV[7] order id
-- ARGV[8] epoch|seq of the claim  ARGV[9] epoch:seq of the order, which holds the claim from here on
-- ARGV[10] 1: the sale left Valkey, and the ledger alone counts its units; the claim is taken all the same, as its coupon
--          may outlive the sale
-- Returns [word, epoch, seq]; seq is the sequence number under which the ledger gives the last word:
--   revived | replayed | sold_out | limit_reached | epoch (the shard is of another one, or shut) | unloaded (no such sale)
--   coupon_unusable (another order redeems the claim, or it is gone)
--   waits (the order still holds the claim: what ended it is not applied here yet, and would free the claim again)
-- The sale need not be open any more: the order was decided when it was.
local shard, sale, units, late, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local epoch, item, viewer, quantity = ARGV[1], ARGV[4], ARGV[5], tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'open')
local seq = tonumber(facts[2] or 0)
local function answer(word, at) return { word, tonumber(facts[1] or 0), at or seq } end
if facts[3] ~= '1' or facts[1] ~= epoch then return answer('epoch') end

local earlier = redis.call('HGET', late, ARGV[3])
if earlier then
  local of_epoch, of_seq = earlier:match('^(%d+)|(%d+)$')
  -- The entry of an earlier epoch is in the ledger: that epoch was drained before this one began.
  return answer('replayed', of_epoch == epoch and tonumber(of_seq) or 0)
end
local offer = redis.call('HMGET', sale, item .. ':limit', item .. ':left')
local counted, field, mine, left = offer[1], viewer .. '|' .. item, nil, nil
if counted then
  mine = tonumber(redis.call('HGET', units, field) or 0)
  if mine + quantity > tonumber(offer[1]) then return answer('limit_reached') end
  left = tonumber(offer[2]) - quantity
  if left < 0 then return answer('sold_out') end
elseif not KEYS[6] or ARGV[10] ~= '1' then
  return answer('unloaded')
end
local claim
if KEYS[6] then
  local found = redis.call('HGET', KEYS[6], ARGV[8])
  if not found then return answer('coupon_unusable') end
  local value, holder, whose = found:match('^(%d+)|([^|]*)|(.*)$')
  if holder == ARGV[9] then return answer('waits') end
  if holder ~= '' or whose ~= viewer then return answer('coupon_unusable') end
  claim = value .. '|' .. ARGV[9] .. '|' .. whose
end

seq = seq + 1
local entry = cmsgpack.pack({ 'late', tonumber(ARGV[2]), now, seq, tonumber(ARGV[3]), tonumber(item), viewer, quantity,
                              ARGV[7] })
redis.call('XADD', stream, epoch .. '-' .. string.format('%d', seq), 'o', entry)
redis.call('HSET', shard, 'seq', string.format('%d', seq))
if claim then redis.call('HSET', KEYS[6], ARGV[8], claim) end
-- Nothing is kept for a sale that left: asked again, the claim that the order holds says that it waits.
if counted then
  redis.call('HSET', sale, item .. ':left', string.format('%d', left))
  redis.call('HSET', units, field, string.format('%d', mine + quantity))
  redis.call('HSET', late, ARGV[3], epoch .. '|' .. string.format('%d', seq))
end
return answer('revived')
