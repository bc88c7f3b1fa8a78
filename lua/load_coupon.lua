#!lua
-- load_coupon: give Valkey a coupon that the ledger has; a coupon that is there already is left as it is.
-- KEYS[1] shard   hash  epoch, open
-- KEYS[2] coupon  hash  kind, value, percent, min, max, threshold, copies, left, budget_left, limit, claim_from,
--                       claim_until, valid_until, currency, sales
-- ARGV[1] epoch  ARGV[2] msgpack array of the fields and their values, one after the other
-- Returns a word:
--   loaded | there | epoch (the shard is of another one, or shut)
local shard, coupon = KEYS[1], KEYS[2]
local facts = redis.call('HMGET', shard, 'epoch', 'open')
if facts[1] ~= ARGV[1] or facts[2] ~= '1' then return 'epoch' end
if redis.call('EXISTS', coupon) == 1 then return 'there' end
redis.call('HSET', coupon, unpack(cmsgpack.unpack(ARGV[2])))
return 'loaded'
