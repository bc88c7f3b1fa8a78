#!lua
-- claim_coupons: decide a group of claims of one coupon, each at most once per idempotency key.
-- KEYS[1] shard    hash    epoch, seq, applied (sequence number the ledger has), open, opens_up_to (there while clocks
--                           are not trusted: ms; a coupon that opens later does not open)
-- KEYS[2] coupon   hash    kind, value, min, max, left, budget_left, limit, claim_from ('': by a drop), claim_until,
--                           valid_until
-- KEYS[3] answers  hash    viewer|key -> epoch|seq|at ms|value of the claim that the key holds
-- KEYS[4] viewers  hash    viewer -> claims the viewer has
-- KEYS[5] claims   hash    epoch|seq of the claim -> value|holder|viewer; holder: the order that redeems it, '' at first
-- KEYS[6] stream   stream  one entry a group, id epoch-last, field o = msgpack ['claims', coupon no, at ms, first, claims]
--                           a claim: [viewer, key, value]
-- ARGV[1] epoch  ARGV[2] highest sequence number seen  ARGV[3] largest backlog (sequence numbers the ledger may be behind)
-- ARGV[4] coupon no  ARGV[5] msgpack array of requests
--         [viewer, key, decide until ms, draw]; draw: a number from 0 to 2^31 - 1, by chance
-- Returns a msgpack array [state of the shard, epoch, seq, now ms, answers]; answers only when the state is open:
--   open | closed (not loaded, or loading) | epoch (another one) | behind (seq under what was seen)
--   unloaded (no such coupon)
-- One answer a request, an array that begins with its word; nothing is written for any but claimed:
--   claimed seq value | replayed epoch seq at_ms value | late | gone | limit_reached
--   not_started opens_at (0: by a drop) | ended | backlog (the ledger is too far behind)
-- A random value lies between min and max, near the mean of what is left at most, and leaves min for every copy behind it:
-- the values of all copies together are at most the budget, in whatever order they are drawn or come back.
-- Commands a call: TIME, five reads, six writes, whatever the size of the group.
local shard, coupon, answers, viewers, claims, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local epoch, seen, backlog = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'applied', 'open', 'opens_up_to')
local seq = tonumber(facts[2] or 0)
if facts[4] ~= '1' then return cmsgpack.pack({ 'closed', tonumber(facts[1] or 0), seq, now, {} }) end
if facts[1] ~= epoch then return cmsgpack.pack({ 'epoch', tonumber(facts[1]), seq, now, {} }) end
if seq < seen then return cmsgpack.pack({ 'behind', tonumber(epoch), seq, now, {} }) end
local terms = redis.call('HMGET', coupon, 'kind', 'value', 'min', 'max', 'left', 'budget_left', 'limit', 'claim_from',
                         'claim_until', 'valid_until')
if not terms[1] then return cmsgpack.pack({ 'unloaded', tonumber(epoch), seq, now, {} }) end

local requests = cmsgpack.unpack(ARGV[5])
local count = #requests
local answer_fields, names = {}, {}
for i = 1, count do
  local request = requests[i]
  answer_fields[i] = request[1] .. '|' .. request[2]
  names[i] = request[1]
end
local known = redis.call('HMGET', answers, unpack(answer_fields))
local had = redis.call('HMGET', viewers, unpack(names))
redis.call('HLEN', claims) -- nothing of it is asked, but one of a wrong type must fail before the first write

local random, fixed = terms[1] == 'random', terms[1] == 'amount' and tonumber(terms[2]) or 0
local min, max, limit = tonumber(terms[3]), tonumber(terms[4]), tonumber(terms[7])
local left, budget = tonumber(terms[5]), tonumber(terms[6])
local opens_at = tonumber(terms[8])
local shut
if now >= tonumber(terms[9]) or now >= tonumber(terms[10]) then shut = { 'ended' }
elseif not opens_at or now < opens_at or facts[5] and opens_at > tonumber(facts[5]) then
  shut = { 'not_started', opens_at or 0 }
end
-- A full backlog refuses new claims but still gives answers already given.
local full = seq - tonumber(facts[3] or 0) + count > backlog

local given, owned = {}, {}
local results, accepted, first = {}, {}, seq + 1
local new_answers, new_claims = {}, {}
for i = 1, count do
  local request = requests[i]
  local viewer, field = request[1], answer_fields[i]
  local earlier = given[field] or known[i]
  local mine = owned[viewer] or tonumber(had[i] or 0)
  local result
  if earlier then
    local of_epoch, of_seq, at_ms, value = earlier:match('^(%d+)|(%d+)|(%d+)|(%d+)$')
    result = { 'replayed', tonumber(of_epoch), tonumber(of_seq), tonumber(at_ms), tonumber(value) }
  elseif now > request[3] then
    result = { 'late' }
  elseif shut then
    result = shut
  elseif mine >= limit then
    result = { 'limit_reached' }
  elseif left < 1 then
    result = { 'gone' }
  elseif full then
    result = { 'backlog' }
  else
    local value = fixed
    if random then
      local most = math.min(max, budget - min * (left - 1), math.max(min, math.floor(2 * budget / left) - min))
      value = min + math.floor(request[4] * (most - min + 1) / 2147483648)
      budget = budget - value
    end
    seq, left, owned[viewer] = seq + 1, left - 1, mine + 1
    local place = epoch .. '|' .. string.format('%d', seq)
    local worth = string.format('%d', value)
    given[field] = place .. '|' .. string.format('%d', now) .. '|' .. worth
    new_answers[#new_answers + 1] = field
    new_answers[#new_answers + 1] = given[field]
    new_claims[#new_claims + 1] = place
    new_claims[#new_claims + 1] = worth .. '||' .. viewer
    request[3], request[4] = value, nil
    accepted[#accepted + 1] = request
    result = { 'claimed', seq, value }
  end
  results[i] = result
end

if #accepted > 0 then
  local new_counts = {}
  for viewer, number in pairs(owned) do
    new_counts[#new_counts + 1] = viewer
    new_counts[#new_counts + 1] = number
  end
  -- The entry first: of all the writes it alone could be refused (an id not past the last one), and then nothing happened.
  local entry = cmsgpack.pack({ 'claims', tonumber(ARGV[4]), now, first, accepted })
  redis.call('XADD', stream, epoch .. '-' .. string.format('%d', seq), 'o', entry)
  redis.call('HSET', shard, 'seq', string.format('%d', seq))
  redis.call('HSET', coupon, 'left', left, 'budget_left', string.format('%d', budget))
  redis.call('HSET', viewers, unpack(new_counts))
  redis.call('HSET', claims, unpack(new_claims))
  redis.call('HSET', answers, unpack(new_answers))
end
return cmsgpack.pack({ 'open', tonumber(epoch), seq, now, results })
