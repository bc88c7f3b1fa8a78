#!lua
-- mark_applied: tell a shard how far the ledger is, and forget entries that are far enough behind.
-- KEYS[1] shard   hash    epoch, applied
-- KEYS[2] stream  stream  entries under a number are trimmed
-- ARGV[1] epoch  ARGV[2] sequence number the ledger has  ARGV[3] number of the first entry kept (0: all of this epoch and the one before)
-- Returns a word:
--   marked | epoch (the shard is of another one: the mark would be of no stream it has)
local shard, stream = KEYS[1], KEYS[2]
if redis.call('HGET', shard, 'epoch') ~= ARGV[1] then return 'epoch' end
redis.call('HSET', shard, 'applied', ARGV[2])
-- A young epoch keeps the one before it beside its own, for a ledger that is restored from a backup; none earlier.
local first = ARGV[1] .. '-' .. ARGV[3]
if tonumber(ARGV[3]) == 0 then first = string.format('%d-0', tonumber(ARGV[1]) - 1) end
redis.call('XTRIM', stream, 'MINID', '~', first)
return 'marked'
