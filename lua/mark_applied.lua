#!lua
-- mark_applied: tell a shard how far the ledger is, and forget entries that are far enough behind.
-- KEYS[1] shard   hash    epoch, applied
-- KEYS[2] stream  stream  entries under a number are trimmed
-- ARGV[1] epoch  ARGV[2] sequence number the ledger has  ARGV[3] number of the first entry kept (0: all)
-- Returns a word:
--   marked | epoch (the shard is of another one: the mark would be of no stream it has)
local shard, stream = KEYS[1], KEYS[2]
if redis.call('HGET', shard, 'epoch') ~= ARGV[1] then return 'epoch' end
redis.call('HSET', shard, 'applied', ARGV[2])
if tonumber(ARGV[3]) > 0 then redis.call('XTRIM', stream, 'MINID', '~', ARGV[1] .. '-' .. ARGV[3]) end
return 'marked'
