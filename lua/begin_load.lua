#!lua
-- begin_load: give a shard up, so that one rebuild can fill it from the ledger.
-- KEYS[1] shard  hash  epoch, seq, applied, released, open, loading (token of the rebuild that fills it),
--                      loaded (token of the last one that ended)
-- ARGV[1] token of the rebuild
-- Returns a word:
--   begun (also before) | stale (the shard sells, or a later rebuild has been here)
-- A shard without an epoch answers every other script no: what is given back or decided from here on stands in the ledger
-- alone, and the ledger is read after this.
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'open', 'loading', 'loaded')
local token = tonumber(ARGV[1])
if facts[1] == '1' or tonumber(facts[2] or 0) > token or tonumber(facts[3] or 0) >= token then return 'stale' end
redis.call('HDEL', shard, 'epoch', 'seq', 'applied', 'released')
redis.call('HSET', shard, 'open', 0, 'loading', ARGV[1])
return 'begun'
