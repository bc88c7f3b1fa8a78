#!lua
-- control_sale: one act of a host on a sale, in the same stream as its orders, so that their order is a fact.
-- KEYS[1] shard    hash    epoch, seq, open, opens_up_to (there while clocks are not trusted: ms)
-- KEYS[2] sale     hash    hold, opens_at, closes_at, and per item no: stock, left, price
-- KEYS[3] acts     hash    shop|caller|key -> fingerprint|epoch|seq of the act that the key holds
-- KEYS[4] stream   stream  field o = msgpack ['act', sale no, at ms, seq, act, item no, value, actor, kind, key,
--                          fingerprint, reason]
-- ARGV[1] epoch  ARGV[2] sale no  ARGV[3] act: open | pause | resume | close | stock | price  ARGV[4] item no  ARGV[5] value
-- ARGV[6] actor  ARGV[7] key or ''  ARGV[8] fingerprint  ARGV[9] decide until ms  ARGV[10] reason  ARGV[11] shop
-- Returns [word, epoch, seq, now ms]; seq is the sequence number the ledger must reach for the act to be kept:
--   done | same (already so) | replayed | key_reused | late | ended (closed is final) | in_use (stock under what is held
--   or sold) | epoch | unloaded
local shard, sale, acts, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, act = ARGV[1], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'open', 'opens_up_to')
local seq = tonumber(facts[2] or 0)
local function answer(word, at) return { word, tonumber(facts[1] or 0), at or seq, now } end
if facts[3] ~= '1' or facts[1] ~= epoch then return answer('epoch') end

local memory = (ARGV[11] or '') .. '|' .. ARGV[6] .. '|' .. ARGV[7]
if ARGV[7] ~= '' then
  local earlier = redis.call('HGET', acts, memory)
  if earlier then
    local fingerprint, of_epoch, of_seq = earlier:match('^([^|]*)|(%d+)|(%d+)$')
    if fingerprint ~= ARGV[8] then return answer('key_reused') end
    -- An act of an earlier epoch is in the ledger: that epoch was drained before this one began.
    return answer('replayed', of_epoch == epoch and tonumber(of_seq) or 0)
  end
end
if now > tonumber(ARGV[9]) then return answer('late') end

local item = ARGV[4]
local offer = redis.call('HMGET', sale, 'hold', 'opens_at', 'closes_at', item .. ':stock', item .. ':left',
                         item .. ':price')
if not offer[1] then return answer('unloaded') end
local ended = offer[1] == 'closed' or now >= tonumber(offer[3])
-- Sales that open later than `opens_up_to` do not open; one that its host opens now does, by the time trusted last.
local at = now
if act == 'open' and facts[4] then at = math.min(now, tonumber(facts[4])) end
local changes
if act == 'close' then
  if offer[1] == 'closed' then return answer('same') end
  changes = { 'hold', 'closed' }
elseif ended then
  return answer('ended')
elseif act == 'pause' then
  if offer[1] == 'paused' then return answer('same') end
  changes = { 'hold', 'paused' }
elseif act == 'resume' then
  if offer[1] == 'active' then return answer('same') end
  changes = { 'hold', 'active' }
elseif act == 'open' then
  if offer[1] == 'active' and at >= tonumber(offer[2]) then return answer('same') end
  changes = { 'hold', 'active', 'opens_at', string.format('%d', math.min(at, tonumber(offer[2]))) }
elseif act == 'stock' then
  local left = tonumber(offer[5]) + tonumber(ARGV[5])
  if left < 0 then return answer('in_use') end
  changes = { item .. ':stock', string.format('%d', tonumber(offer[4]) + tonumber(ARGV[5])),
              item .. ':left', string.format('%d', left) }
elseif act == 'price' then
  if not offer[6] then return redis.error_reply('UNKNOWN_ITEM ' .. item) end
  if offer[6] == ARGV[5] then return answer('same') end
  changes = { item .. ':price', string.format('%d', tonumber(ARGV[5])) }
else
  return redis.error_reply('UNKNOWN_ACT ' .. act)
end

seq = seq + 1
local entry = cmsgpack.pack({ 'act', tonumber(ARGV[2]), at, seq, act, tonumber(item), tonumber(ARGV[5]), ARGV[6],
                              act == 'price' and 'price' or 'stock', ARGV[7], ARGV[8], ARGV[10] or '' })
redis.call('XADD', stream, epoch .. '-' .. string.format('%d', seq), 'o', entry)
redis.call('HSET', shard, 'seq', string.format('%d', seq))
redis.call('HSET', sale, unpack(changes))
if ARGV[7] ~= '' then redis.call('HSET', acts, memory, ARGV[8] .. '|' .. epoch .. '|' .. string.format('%d', seq)) end
return answer('done')
