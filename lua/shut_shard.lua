#!lua
-- shut_shard: stop a shard from selling, and every rebuild that began before this one, as its first step.
-- KEYS[1] shard  hash  epoch, open, loading, loaded (no rebuild with this token or an older one does anything more)
-- ARGV[1] epoch it was seen in (0: none)  ARGV[2] token of the rebuild (0: no rebuild, only shut it)
-- Returns a word:
--   shut (also before) | filling (it was being filled; what is filled is given up)
--   moved (it is in another epoch than was seen, or a later rebuild has been here)
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'open', 'loading', 'loaded')
local token = tonumber(ARGV[2])
if tonumber(facts[1] or 0) ~= tonumber(ARGV[1]) then return 'moved' end
if token == 0 then
  if facts[2] == '1' then redis.call('HSET', shard, 'open', 0) end
  return 'shut'
end
if tonumber(facts[3] or 0) >= token or tonumber(facts[4] or 0) >= token then return 'moved' end
if not facts[2] then return 'shut' end
redis.call('HSET', shard, 'open', 0, 'loaded', string.format('%d', token - 1))
if not facts[3] then return 'shut' end
redis.call('HDEL', shard, 'loading')
return 'filling'
