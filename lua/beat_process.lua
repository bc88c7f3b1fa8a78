#!lua
-- beat_process: a process says that it lives, and hears who else does.
-- KEYS[1] processes  zset  process -> ms until which its word holds
-- ARGV[1] process  ARGV[2] ms its word holds (0: it leaves)
-- Returns the processes that live, in the order in which their words end.
local processes = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', processes, 0, now)
if ARGV[2] == '0' then redis.call('ZREM', processes, ARGV[1])
else redis.call('ZADD', processes, now + tonumber(ARGV[2]), ARGV[1]) end
return redis.call('ZRANGE', processes, 0, -1)
