#!lua
-- load_fields: fill a part of a hash of a shard in rebuild.
-- KEYS[1] shard  hash  loading
-- KEYS[2] hash   hash  a sale, its answers or its units
-- ARGV[1] token of the rebuild  ARGV[2] msgpack array: field, value, field, value (a thousand fields at most)
-- Returns a word:
--   loaded | stale (another rebuild fills the shard, or none does)
local shard, hash = KEYS[1], KEYS[2]
if redis.call('HGET', shard, 'loading') ~= ARGV[1] then return 'stale' end
redis.call('HSET', hash, unpack(cmsgpack.unpack(ARGV[2])))
return 'loaded'
