#!lua
-- drop_keys: forget what a shard in rebuild held before.
-- KEYS[1] shard  hash  loading
-- KEYS[2..] keys of the shard, of any type
-- ARGV[1] token of the rebuild
-- Returns a word:
--   dropped | stale (another rebuild fills the shard, or none does)
local shard = KEYS[1]
if redis.call('HGET', shard, 'loading') ~= ARGV[1] then return 'stale' end
for at = 2, #KEYS do redis.call('UNLINK', KEYS[at]) end
return 'dropped'
