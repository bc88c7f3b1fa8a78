#!lua
-- advance_shard: let a shard sell in a new epoch from the counters it has, because the ledger has all of its stream.
-- KEYS[1] shard  hash  epoch, seq, applied, open, loading, loaded
-- ARGV[1] epoch that ended  ARGV[2] sequence number it ended at  ARGV[3] new epoch  ARGV[4] token of the rebuild
-- Returns a word:
--   advanced | other (it does not stand there, or a later rebuild has been here: it has to be recounted)
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'loading', 'loaded')
if facts[1] ~= ARGV[1] or facts[2] ~= ARGV[2] or facts[3] then return 'other' end
if tonumber(facts[4] or 0) >= tonumber(ARGV[4]) then return 'other' end
redis.call('HSET', shard, 'epoch', ARGV[3], 'seq', 0, 'applied', 0, 'open', 1, 'loaded', ARGV[4])
return 'advanced'
