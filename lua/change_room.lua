#!lua
-- change_room: an act on a room: what it sets, whom it mutes, what it takes back, and what the room is told of it.
-- KEYS[1] room     hash    epoch, seq, n (last comment number), waiting (comments that wait), slow_mode_s, comments, pin, rules
-- KEYS[2] pending  list    what waits for the next tick: a tag (c comment, s comment of staff, e event), then msgpack
-- KEYS[3] mutes    hash    viewer -> until ms
-- KEYS[4] archive  stream  what was said and taken back, until the ledger has it
-- ARGV[1] msgpack [room no, mutes [[viewer, until ms (0: none)]...], number of a comment or 0, the last
--         16 bits of its epoch, viewer or '', actor, rules changed (1 or 0)]
-- ARGV[2] slow mode s, or empty  ARGV[3] comments (1 or 0), or empty  ARGV[4] pin: empty (as it was), - (none) or + and msgpack
-- ARGV[5..] events, each packed
-- Returns [word, epoch]:
--   changed | unknown (this server does not have the room)
local KEEP_S = 604800
local room, pending, mutes, archive = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local facts = redis.call('HMGET', room, 'epoch', 'n')
if not facts[1] then return { 'unknown', 0 } end
local room_no, muted, gone, gone_epoch, viewer, actor, rules = unpack(cmsgpack.unpack(ARGV[1]))
-- Numbers begin anew with an epoch; what was said in one before is not here.
if tonumber(facts[1]) % 65536 ~= gone_epoch then gone = 0 end

if ARGV[2] ~= '' then redis.call('HSET', room, 'slow_mode_s', ARGV[2]) end
if ARGV[3] ~= '' then redis.call('HSET', room, 'comments', ARGV[3]) end
if ARGV[4] == '-' then redis.call('HDEL', room, 'pin')
elseif ARGV[4] ~= '' then redis.call('HSET', room, 'pin', string.sub(ARGV[4], 2)) end
for i = 1, #muted do
  if muted[i][2] == 0 then redis.call('HDEL', mutes, muted[i][1])
  else redis.call('HSET', mutes, muted[i][1], string.format('%d', muted[i][2])) end
end
if rules == 1 then redis.call('HINCRBY', room, 'rules', 1) end

if gone ~= 0 or viewer ~= '' then
  -- What is taken back before it was shown never is.
  local kept, waiting = {}, 0
  for _, item in ipairs(redis.call('LRANGE', pending, 0, -1)) do
    local tag, stays = string.sub(item, 1, 1), true
    if tag ~= 'e' then
      local comment = cmsgpack.unpack(string.sub(item, 2))
      stays = comment[1] ~= gone and comment[3] ~= viewer
    end
    if stays then
      kept[#kept + 1] = item
      if tag == 'c' then waiting = waiting + 1 end
    end
  end
  redis.call('DEL', pending)
  for i = 1, #kept do redis.call('RPUSH', pending, kept[i]) end
  redis.call('HSET', room, 'waiting', waiting)
  local taken = {}
  if gone ~= 0 then taken[#taken + 1] = { 'g', gone, actor } end
  if viewer ~= '' then taken[#taken + 1] = { 'v', viewer, tonumber(facts[2]), actor } end
  redis.call('XADD', archive, '*', 'e', cmsgpack.pack({ room_no, tonumber(facts[1]), taken }))
end
for i = 5, #ARGV do redis.call('RPUSH', pending, 'e' .. ARGV[i]) end
-- They may have been made just now, and are forgotten with the room.
redis.call('EXPIRE', pending, KEEP_S)
redis.call('EXPIRE', mutes, KEEP_S)
return { 'changed', tonumber(facts[1]) }
