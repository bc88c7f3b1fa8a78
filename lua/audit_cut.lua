#!lua flags=no-writes
-- audit_cut: how a shard stands at one moment, for the audit; changes nothing.
-- KEYS[1] shard    hash    epoch, seq, applied, released, open, opens_up_to
-- KEYS[2] stream   stream  the entries behind the cursor are read
-- KEYS[3] answers  hash    of the sale whose fields are named; answers or claims of the coupon
-- KEYS[4] units    hash    of the sale whose fields are named; viewers of the coupon
-- KEYS[5..] sale   hash    one a sale or coupon asked for, read as a whole
-- ARGV[1] epoch  ARGV[2] last sequence number of the ledger (the cursor)
-- ARGV[3] most sequence numbers behind the cursor whose entries are read
-- ARGV[4] how many fields of answers are named  ARGV[5..] these, then fields of units (a few hundred in all, or none)
-- Returns [word, now ms, facts, entries, answers, units, sales]; facts are the fields of the shard as named above, nil
-- where one is not there; entries as [id, body], answers and units one value a field, sales one array of fields and
-- values a sale (empty: not there). The word says what the entries are:
--   whole (all behind the cursor) | backlog (more than asked for: none is read) | epoch (another one: none is read)
local shard, stream, answers, units = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, after, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'applied', 'released', 'open', 'opens_up_to')

local word, entries = 'whole', {}
if facts[1] ~= epoch then
  word = 'epoch'
elseif tonumber(facts[2] or 0) - after > most then
  word = 'backlog'
else
  local from = epoch .. '-' .. string.format('%d', after + 1)
  for at, entry in ipairs(redis.call('XRANGE', stream, from, '+', 'COUNT', string.format('%d', most))) do
    entries[at] = { entry[1], entry[2][2] }
  end
end

local function read(hash, first, last)
  if first > last then return {} end
  return redis.call('HMGET', hash, unpack(ARGV, first, last))
end
local named = 4 + tonumber(ARGV[4])
local sales = {}
for at = 5, #KEYS do sales[at - 4] = redis.call('HGETALL', KEYS[at]) end

return { word, now, facts, entries, read(answers, 5, named), read(units, named + 1, #ARGV), sales }
