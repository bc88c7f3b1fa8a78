#!lua
-- retire_sale: forget a sale that is over and settled; from then on the ledger alone answers for it.
-- KEYS[1] shard    hash  epoch, open
-- KEYS[2] sale     hash  hold, closes_at, and per item no: stock, left, held
-- KEYS[3] answers  hash  forgotten with the sale
-- KEYS[4] units    hash  forgotten with the sale
-- KEYS[5] late     hash  forgotten with the sale
-- ARGV[1] epoch  ARGV[2] look (change nothing) | drop  ARGV[3] msgpack array of items [item no, units the ledger has sold]
-- Returns a word:
--   settled (look: it may be dropped) | dropped | gone (it is not there; drop forgets what is left of it)
--   busy (units are held, or on their way to or from the ledger) | running (not over by Valkey's time)
--   epoch (the shard is of another one, or shut)
-- What is not held and not sold by the ledger's count is left: then no order of the sale waits in the stream, no revival,
-- and no row of the outbox would change it, so nothing is lost with it. What is forgotten is freed in the background.
local shard, sale = KEYS[1], KEYS[2]
local epoch, drop = ARGV[1], ARGV[2] == 'drop'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local facts = redis.call('HMGET', shard, 'epoch', 'open')
if facts[1] ~= epoch or facts[2] ~= '1' then return 'epoch' end
local items = cmsgpack.unpack(ARGV[3])
local fields = { 'hold', 'closes_at' }
for _, item in ipairs(items) do
  for _, name in ipairs({ ':stock', ':left', ':held' }) do fields[#fields + 1] = item[1] .. name end
end
local offer = redis.call('HMGET', sale, unpack(fields))
if offer[1] then
  if offer[1] ~= 'closed' and now < tonumber(offer[2]) then return 'running' end
  for i, item in ipairs(items) do
    local stock, left, held = offer[3 * i], offer[3 * i + 1], offer[3 * i + 2]
    if held ~= '0' or tonumber(left) ~= tonumber(stock) - item[2] then return 'busy' end
  end
end
if drop then redis.call('UNLINK', sale, KEYS[3], KEYS[4], KEYS[5]) end
if not offer[1] then return 'gone' end
return drop and 'dropped' or 'settled'
