#!lua
-- shut_shard: stop a shard from selling, as the first step of its rebuild.
-- KEYS[1] shard  hash  epoch, open
-- ARGV[1] epoch it was seen in (0: none)
-- Returns a word:
--   shut (also before) | moved (it is in another epoch than was seen: somebody has rebuilt it)
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'open')
if tonumber(facts[1] or 0) ~= tonumber(ARGV[1]) then return 'moved' end
if facts[2] == '1' then redis.call('HSET', shard, 'open', 0) end
return 'shut'
