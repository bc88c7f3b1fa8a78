#!lua
-- control_coupon: one act of a host on a coupon, in the same stream as its claims, so that their order is a fact.
-- KEYS[1] shard   hash    epoch, seq, open, opens_up_to (there while clocks are not trusted: ms)
-- KEYS[2] coupon  hash    claim_from, claim_until, valid_until
-- KEYS[3] acts    hash    shop|caller|drop+key -> fingerprint|epoch|seq of the act that the key holds; no key has a +, so
--                         that it is not the same caller's of another kind of act
-- KEYS[4] stream  stream  field o = msgpack ['coupon_act', coupon no, at ms, seq, act, room no, claim_until ms, actor,
--                         kind, key, fingerprint]
-- ARGV[1] epoch  ARGV[2] coupon no  ARGV[3] act: drop  ARGV[4] room no  ARGV[5] ms from now on that it may be claimed, or 0
-- ARGV[6] actor  ARGV[7] key or ''  ARGV[8] fingerprint  ARGV[9] decide until ms  ARGV[10] shop
-- Returns [word, epoch, seq, now ms, claim_until ms]; seq is the sequence number the ledger must reach for it to be kept:
--   done | replayed | key_reused | late | ended (it is not valid any more) | epoch (of another one, or shut) | unloaded
-- A drop opens the claim at once: claim_from falls to now, and claim_until is moved to now and so many ms, valid_until at
-- the most. Without them claim_until stays if it lies ahead, else it is valid_until.
local shard, coupon, acts, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, act = ARGV[1], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local facts = redis.call('HMGET', shard, 'epoch', 'seq', 'open', 'opens_up_to')
local seq = tonumber(facts[2] or 0)
local terms = redis.call('HMGET', coupon, 'claim_from', 'claim_until', 'valid_until')
local claim_until = tonumber(terms[2] or 0)
local function answer(word, at) return { word, tonumber(facts[1] or 0), at or seq, now, claim_until } end
if facts[3] ~= '1' or facts[1] ~= epoch then return answer('epoch') end

local memory = ARGV[10] .. '|' .. ARGV[6] .. '|drop+' .. ARGV[7]
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
if not terms[1] then return answer('unloaded') end
if act ~= 'drop' then return redis.error_reply('UNKNOWN_ACT ' .. act) end
local valid_until, for_ms = tonumber(terms[3]), tonumber(ARGV[5])
if now >= valid_until then return answer('ended') end
-- Coupons that open later than `opens_up_to` do not open; one that its host drops now does, by the time trusted last.
local at = facts[4] and math.min(now, tonumber(facts[4])) or now
local claim_from = math.min(at, tonumber(terms[1]) or at)
if for_ms > 0 then
  claim_until = math.min(now + for_ms, valid_until)
elseif claim_until <= now then
  claim_until = valid_until
end

seq = seq + 1
local entry = cmsgpack.pack({ 'coupon_act', tonumber(ARGV[2]), at, seq, act, tonumber(ARGV[4]), claim_until, ARGV[6],
                              'drop', ARGV[7], ARGV[8] })
redis.call('XADD', stream, epoch .. '-' .. string.format('%d', seq), 'o', entry)
redis.call('HSET', shard, 'seq', string.format('%d', seq))
redis.call('HSET', coupon, 'claim_from', string.format('%d', claim_from), 'claim_until',
           string.format('%d', claim_until))
if ARGV[7] ~= '' then redis.call('HSET', acts, memory, ARGV[8] .. '|' .. epoch .. '|' .. string.format('%d', seq)) end
return answer('done')
