#!lua
-- pause_opening: while clocks are not trusted no further sale of a shard opens; sales that are open go on.
-- KEYS[1] shard  hash  epoch, opens_up_to (ms; there while opening is paused)
-- ARGV[1] ms by Valkey's time as it was trusted last, or '' to let sales open again
-- Returns a word:
--   paused (also by an earlier call, whose time stands) | resumed | none (nothing sells there: it is new, or rebuilt)
local shard = KEYS[1]
if ARGV[1] == '' then
  -- A write costs a sync of the file, so what is so already is not written.
  if redis.call('HEXISTS', shard, 'opens_up_to') == 1 then redis.call('HDEL', shard, 'opens_up_to') end
  return 'resumed'
end
if redis.call('HEXISTS', shard, 'epoch') == 0 then return 'none' end
redis.call('HSETNX', shard, 'opens_up_to', string.format('%d', tonumber(ARGV[1])))
return 'paused'
