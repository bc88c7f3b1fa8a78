#!lua
-- open_loaded: let a shard sell that a rebuild has filled.
-- KEYS[1] shard  hash  epoch, seq, applied, released, open, loading, loaded
-- ARGV[1] token of the rebuild  ARGV[2] epoch  ARGV[3] last outbox number that the recount has in it
-- Returns a word:
--   opened | stale (another rebuild fills the shard, or none does)
local shard = KEYS[1]
if redis.call('HGET', shard, 'loading') ~= ARGV[1] then return 'stale' end
redis.call('HSET', shard, 'epoch', ARGV[2], 'seq', 0, 'applied', 0, 'released', ARGV[3], 'open', 1, 'loaded', ARGV[1])
redis.call('HDEL', shard, 'loading')
return 'opened'
