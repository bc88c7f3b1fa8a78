#!lua
-- retire_coupon: forget a coupon that is not valid any more; from then on the ledger alone answers for it.
-- KEYS[1] shard    hash  epoch, open
-- KEYS[2] coupon   hash  claim_until, valid_until
-- KEYS[3] answers  hash  forgotten with the coupon
-- KEYS[4] viewers  hash  forgotten with the coupon
-- KEYS[5] claims   hash  forgotten with the coupon
-- ARGV[1] epoch
-- Returns a word:
--   dropped | gone (it is not there; what is left of it is forgotten) | running (not over by Valkey's time)
--   epoch (the shard is of another one, or shut)
-- What is forgotten is freed in the background.
local shard, coupon = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local facts = redis.call('HMGET', shard, 'epoch', 'open')
if facts[1] ~= ARGV[1] or facts[2] ~= '1' then return 'epoch' end
local terms = redis.call('HMGET', coupon, 'claim_until', 'valid_until')
if terms[1] and (now < tonumber(terms[1]) or now < tonumber(terms[2])) then return 'running' end
redis.call('UNLINK', coupon, KEYS[3], KEYS[4], KEYS[5])
return terms[1] and 'dropped' or 'gone'
