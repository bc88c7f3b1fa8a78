#!lua
-- load_sale: give Valkey a sale that the ledger has; a sale that is there already is left as it is.
-- KEYS[1] shard  hash  epoch, open
-- KEYS[2] sale   hash  hold, opens_at, closes_at, and per item no: price, limit, stock, left, held; floor and plan where
--                       it has them
-- ARGV[1] epoch  ARGV[2] hold  ARGV[3] opens_at ms  ARGV[4] closes_at ms
-- ARGV[5] msgpack array of items [item no, price, limit, stock] or [.., floor or 0, plan or '']
--         plan: 'from ms:price;...' ascending
-- Returns a word:
--   loaded | there | epoch (the shard is of another one, or shut)
local shard, sale = KEYS[1], KEYS[2]
local facts = redis.call('HMGET', shard, 'epoch', 'open')
if facts[1] ~= ARGV[1] or facts[2] ~= '1' then return 'epoch' end
if redis.call('EXISTS', sale) == 1 then return 'there' end
local fields = { 'hold', ARGV[2], 'opens_at', ARGV[3], 'closes_at', ARGV[4] }
for _, item in ipairs(cmsgpack.unpack(ARGV[5])) do
  local no = item[1]
  local values = { price = item[2], limit = item[3], stock = item[4], left = item[4], held = 0 }
  for name, value in pairs(values) do
    fields[#fields + 1] = no .. ':' .. name
    fields[#fields + 1] = string.format('%d', value)
  end
  if item[5] and item[5] > 0 then
    fields[#fields + 1] = no .. ':floor'
    fields[#fields + 1] = string.format('%d', item[5])
  end
  if item[6] and item[6] ~= '' then
    fields[#fields + 1] = no .. ':plan'
    fields[#fields + 1] = item[6]
  end
end
redis.call('HSET', sale, unpack(fields))
return 'loaded'
