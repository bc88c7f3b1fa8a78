#!lua
-- open_shard: make a new shard sell; one that is there in any state is left as it is.
-- KEYS[1] shard  hash  epoch, seq, applied, open, released (number of the last outbox row applied)
-- ARGV[1] epoch of the ledger
-- Returns [word, epoch, seq]:
--   created (now open, with nothing in it) | there
-- Whether a shard that is not there is new or lost is the ledger's to say, before this is called.
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'loading')
if facts[1] or facts[3] then return { 'there', tonumber(facts[1] or 0), tonumber(facts[2] or 0) } end
redis.call('HSET', shard, 'epoch', ARGV[1], 'seq', 0, 'applied', 0, 'released', 0, 'open', 1)
return { 'created', tonumber(ARGV[1]), 0 }
