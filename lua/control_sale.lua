#!lua
-- control_sale: one act of a host on a sale, in the same stream as its orders, so that their order is a fact.
-- KEYS[1] shard    hash    epoch, seq, open, opens_up_to (there while clocks are not trusted: ms)
-- KEYS[2] sale     hash    hold, opens_at, closes_at, and per item no: stock, left, price, plan
-- KEYS[3] acts     hash    shop|caller|key -> fingerprint|epoch|seq of the act that the key holds
-- KEYS[4] stream   stream  field o = msgpack ['act', sale no, at ms, seq, act, item no, value, actor, kind, key,
--                          fingerprint, reason] and of plan and window the text
-- ARGV[1] epoch  ARGV[2] sale no  ARGV[3] act: open | pause | resume | close | stock | price | plan | window
-- ARGV[4] item no  ARGV[5] value (of window opens_at ms)  ARGV[6] actor  ARGV[7] key or ''  ARGV[8] fingerprint
-- ARGV[9] decide until ms  ARGV[10] reason  ARGV[11] shop
-- ARGV[12] text: of plan 'from ms:price;...' ascending, or '' to end it; of window closes_at ms
-- Returns [word, epoch, seq, now ms]; seq is the sequence number the ledger must reach for the act to be kept:
--   done | same (already so) | replayed | key_reused | late | ended (closed is final) | in_use (stock under what is held
--   or sold) | started (it has begun: opens_at stays) | past (it would close at once, or before it opens)
--   epoch | unloaded
-- A price that is set ends the item's plan.
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

local item, text = ARGV[4], ARGV[12] or ''
local offer = redis.call('HMGET', sale, 'hold', 'opens_at', 'closes_at', item .. ':stock', item .. ':left',
                         item .. ':price', item .. ':plan')
if not offer[1] then return answer('unloaded') end
local ended = offer[1] == 'closed' or now >= tonumber(offer[3])
-- Sales that open later than `opens_up_to` do not open; one that its host opens now does, by the time trusted last.
local trusted = facts[4] and math.min(now, tonumber(facts[4])) or now
local at = act == 'open' and trusted or now
local changes, ends_plan = {}, false
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
  if offer[6] == ARGV[5] and not offer[7] then return answer('same') end
  changes, ends_plan = { item .. ':price', string.format('%d', tonumber(ARGV[5])) }, true
elseif act == 'plan' then
  if not offer[6] then return redis.error_reply('UNKNOWN_ITEM ' .. item) end
  if (offer[7] or '') == text then return answer('same') end
  if text == '' then
    ends_plan = true
  else
    local last = -1
    for step in (text .. ';'):gmatch('([^;]*);') do
      local from = tonumber(step:match('^(%d+):%d+$') or -1)
      if from <= last then return redis.error_reply('UNKNOWN_PLAN ' .. text) end
      last = from
    end
    changes = { item .. ':plan', text }
  end
elseif act == 'window' then
  local opens_at, closes_at = tonumber(ARGV[5]), tonumber(text)
  if opens_at ~= tonumber(offer[2]) then
    if trusted >= tonumber(offer[2]) then return answer('started') end
  elseif closes_at == tonumber(offer[3]) then
    return answer('same')
  end
  if closes_at <= now or closes_at <= opens_at then return answer('past') end
  changes = { 'opens_at', string.format('%d', opens_at), 'closes_at', string.format('%d', closes_at) }
else
  return redis.error_reply('UNKNOWN_ACT ' .. act)
end

seq = seq + 1
local kind = (act == 'price' or act == 'plan' or act == 'window') and act or 'stock'
local entry = { 'act', tonumber(ARGV[2]), at, seq, act, tonumber(item), tonumber(ARGV[5]), ARGV[6], kind, ARGV[7],
                ARGV[8], ARGV[10] or '' }
if act == 'plan' or act == 'window' then entry[#entry + 1] = text end
redis.call('XADD', stream, epoch .. '-' .. string.format('%d', seq), 'o', cmsgpack.pack(entry))
redis.call('HSET', shard, 'seq', string.format('%d', seq))
if #changes > 0 then redis.call('HSET', sale, unpack(changes)) end
if ends_plan then redis.call('HDEL', sale, item .. ':plan') end
if ARGV[7] ~= '' then redis.call('HSET', acts, memory, ARGV[8] .. '|' .. epoch .. '|' .. string.format('%d', seq)) end
return answer('done')
