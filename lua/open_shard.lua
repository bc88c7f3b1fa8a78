#!lua
-- open_shard: make a shard sell, when it is new; say how it stands, when it is not.
-- KEYS[1] shard  hash  epoch, seq, applied, open, released (number of the last outbox row applied)
-- ARGV[1] epoch of the ledger  ARGV[2] last sequence number of the ledger  ARGV[3] last outbox number of the ledger
-- ARGV[4] 1 when the ledger knows that it was opened before, else 0
-- Returns [word, epoch, seq]:
--   created (the ledger has nothing of it: a new shard, now open) | open (same epoch, at or past the ledger)
--   lost (empty or behind the ledger, or of another epoch: it stays shut until it is recounted from the ledger)
local shard = KEYS[1]
local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'open')
if not facts[1] then
  if ARGV[4] == '1' or tonumber(ARGV[2]) > 0 or tonumber(ARGV[3]) > 0 then return { 'lost', 0, 0 } end
  redis.call('HSET', shard, 'epoch', ARGV[1], 'seq', 0, 'applied', 0, 'released', 0, 'open', 1)
  return { 'created', tonumber(ARGV[1]), 0 }
end
local epoch, seq = tonumber(facts[1]), tonumber(facts[2])
if epoch ~= tonumber(ARGV[1]) or seq < tonumber(ARGV[2]) then
  redis.call('HSET', shard, 'open', 0)
  return { 'lost', epoch, seq }
end
if facts[3] ~= '1' then redis.call('HSET', shard, 'open', 1) end
return { 'open', epoch, seq }
