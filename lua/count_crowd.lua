#!lua
-- count_crowd: one process says how many sockets it holds in a room; the sockets of all processes that live are added up.
-- KEYS[1] room   hash  epoch, seq, viewers (of all processes), shown_viewers, interval ms (the longest of all), rules;
--                        slot (five seconds, by number), peak (most viewers in it), peak_was (in the slot before)
-- KEYS[2] crowd  hash  c:process -> sockets|interval ms|at ms;  l:process -> taps of that process
-- ARGV[1] process  ARGV[2] its sockets  ARGV[3] its interval ms  ARGV[4] ms after which a process that is not named is gone
-- ARGV[5..] the processes that live
-- Returns [word, epoch, seq, viewers, whether they are others than were shown (1 or 0), rules]:
--   counted | unknown (this server does not have the room)
local room, crowd, KEEP_S, SLOT_MS = KEYS[1], KEYS[2], 604800, 5000
local facts = redis.call('HMGET', room, 'epoch', 'seq', 'shown_viewers', 'rules', 'viewers', 'slot', 'peak')
if not facts[1] then return { 'unknown', 0, 0, 0, 0, 0 } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lives = {}
for i = 5, #ARGV do lives[ARGV[i]] = true end
local me = 'c:' .. ARGV[1]
if ARGV[2] == '0' then redis.call('HDEL', crowd, me)
else redis.call('HSET', crowd, me, ARGV[2] .. '|' .. ARGV[3] .. '|' .. string.format('%d', now)) end
redis.call('EXPIRE', crowd, KEEP_S)

local viewers, interval = 0, 0
local all = redis.call('HGETALL', crowd)
for i = 1, #all, 2 do
  local field = all[i]
  local process = string.sub(field, 3)
  if string.sub(field, 1, 2) == 'c:' then
    local sockets, its, at = string.match(all[i + 1], '^(%d+)|(%d+)|(%d+)$')
    -- One that came after the caller last looked who lives is too young to be dead.
    if process == ARGV[1] or lives[process] or math.abs(now - tonumber(at)) < tonumber(ARGV[4]) then
      viewers = viewers + tonumber(sockets)
      interval = math.max(interval, tonumber(its))
    else
      redis.call('HDEL', crowd, field)
    end
  end
end
-- Nobody counts while nothing changes: until now there were as many as the last count found.
local before, slot = tonumber(facts[5] or 0), math.floor(now / SLOT_MS)
local counted_in, peak = tonumber(facts[6] or 0), tonumber(facts[7] or 0)
if counted_in == slot then
  redis.call('HSET', room, 'viewers', viewers, 'interval', interval, 'peak', math.max(peak, viewers))
else
  redis.call('HSET', room, 'viewers', viewers, 'interval', interval, 'slot', string.format('%d', slot),
    'peak', math.max(before, viewers), 'peak_was', counted_in == slot - 1 and peak or before)
end
local shown = tonumber(facts[3] or 0)
return { 'counted', tonumber(facts[1]), tonumber(facts[2]), viewers, viewers ~= shown and 1 or 0, tonumber(facts[4] or 0) }
