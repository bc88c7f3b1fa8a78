#!lua
-- open_room: make a room that this server does not have, from what the ledger knows of it.
-- KEYS[1] room  hash   KEYS[2] mutes  hash   KEYS[3..] every other key of the room, forgotten with it
-- ARGV[1] slow mode s  ARGV[2] comments (1 or 0)  ARGV[3] pin (msgpack, or empty)  ARGV[4] likes
-- ARGV[5] an epoch and ARGV[6] a tick of it that was seen: where it is not reached, this server has lost ticks
-- ARGV[7..] viewer, muted until ms, ...
-- Returns [word, epoch]; the epoch of a room is the time at which it was opened here:
--   opened | there
local room, mutes, KEEP_S = KEYS[1], KEYS[2], 604800
local facts = redis.call('HMGET', room, 'epoch', 'seq')
local lost = facts[1] == ARGV[5] and tonumber(facts[2]) < tonumber(ARGV[6])
if facts[1] and not lost then return { 'there', tonumber(facts[1]) } end

local time = redis.call('TIME')
local now = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(facts[1] or 0) + 1)
-- Parts of it may be left where only some keys were lost; they are of another epoch.
redis.call('DEL', unpack(KEYS))
redis.call('HSET', room, 'epoch', string.format('%d', now), 'seq', 0, 'cut_at', 0, 'n', 0,
  'likes', ARGV[4], 'shown_likes', ARGV[4], 'kept_likes', ARGV[4], 'slow_mode_s', ARGV[1], 'comments', ARGV[2], 'rules', 0)
if ARGV[3] ~= '' then redis.call('HSET', room, 'pin', ARGV[3]) end
for i = 7, #ARGV, 2 do redis.call('HSET', mutes, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', room, KEEP_S)
redis.call('EXPIRE', mutes, KEEP_S)
return { 'opened', now }
