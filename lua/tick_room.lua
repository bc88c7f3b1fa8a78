#!lua
-- tick_room: take what a process brings for a room, answer its comments, and cut the room's tick when it is due.
-- KEYS[1] room     hash    epoch, seq (of the last tick), cut_at ms, n (last comment number), waiting (comments that wait), skipped,
--                          likes, shown_likes, viewers, shown_viewers, tokens and tokens_at (comments that may be shown), interval ms
--                          (the longest of all processes), slow_mode_s, comments (1 or 0), said_in (period of 5 minutes), stock (1: changed)
-- KEYS[2] pending  list    what waits for the next tick: a tag (c comment, s comment of staff, e event), then msgpack
-- KEYS[3] ticks    stream  the last ticks, id seq-0, field t
-- KEYS[4] crowd    hash    l:process -> taps of that process in this epoch
-- KEYS[5] mutes    hash    viewer -> until ms
-- KEYS[6] spoke    zset    viewer -> ms of their last comment; kept in slow mode only
-- KEYS[7] stock    hash    sale|sku -> version|packed event of the newest reading;  told:sale|sku -> the packed event told last
-- KEYS[8] said:0   KEYS[9] said:1  hashes  viewer|id -> number|at ms of the comment; each period in one, so that they can be forgotten
-- KEYS[10] archive stream  what was said, until the ledger has it
-- ARGV[1] msgpack [room no, process, interval ms, at once (1 or 0), comments shown a second (0: all), epoch the taps are of, taps so far,
--         archive entries at most, comments [[viewer, sub, id, name, text, staff (1 or 0), banned words (1 or 0)]...], stock [[sale|sku, version]...]]
-- ARGV[2] channel of the room  ARGV[3..] the event of each stock, packed
-- Returns [word, epoch, seq, now ms, ms until the next tick may be cut (-1: nothing waits), answers]:
--   cut | early (something waits) | quiet (nothing to tell) | unknown (this server does not have the room)
-- One answer a comment, an array that begins with its word:
--   posted number at_ms | replayed number at_ms | rejected | muted wait_ms | slow_mode wait_ms | comments_off | overloaded (the ledger is too far behind)
-- A tick is msgpack [epoch, seq, now ms, viewers|nil, likes|nil, skipped, [event...]].
local HISTORY, PERIOD_MS, WAITING_MAX, KEEP_S = 600, 300000, 200, 604800
local room, pending, ticks, crowd, mutes, spoke, stock = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local room_no, process, interval, at_once, rate, taps_epoch, taps, archive_max, comments, items = unpack(cmsgpack.unpack(ARGV[1]))

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local facts = redis.call('HMGET', room, 'epoch', 'seq', 'cut_at', 'n', 'waiting', 'skipped', 'likes', 'shown_likes', 'viewers',
  'shown_viewers', 'tokens', 'tokens_at', 'interval', 'slow_mode_s', 'comments', 'said_in', 'stock')
local function fact(i) return tonumber(facts[i] or 0) end
if not facts[1] then return cmsgpack.pack({ 'unknown', 0, 0, now, -1, {} }) end
local epoch, seq, cut_at, n, waiting, skipped, likes = fact(1), fact(2), fact(3), fact(4), fact(5), fact(6), fact(7)

-- Comments: decided in their order, so that those of one call see each other.
local answers, said_now = {}, {}
if #comments > 0 then
  local period = math.floor(now / PERIOD_MS)
  if period == fact(16) - 1 then period = fact(16) end -- the clock went back: what was said in this period stays known
  local said, before = KEYS[8 + period % 2], KEYS[9 - period % 2]
  if fact(16) ~= period then
    -- What this hash holds is two periods old; what the other one holds is one old, or as old.
    redis.call('DEL', said)
    if fact(16) < period - 1 then redis.call('DEL', before) end
    redis.call('HSET', room, 'said_in', string.format('%d', period))
  end
  local fields, viewers = {}, {}
  for i = 1, #comments do
    viewers[i] = comments[i][1]
    fields[i] = viewers[i] .. '|' .. comments[i][3]
  end
  local known = { redis.call('HMGET', said, unpack(fields)), redis.call('HMGET', before, unpack(fields)) }
  local muted_until = redis.call('HMGET', mutes, unpack(viewers))
  local slow_ms, last = fact(14) * 1000, {}
  if slow_ms > 0 then
    redis.call('ZREMRANGEBYSCORE', spoke, 0, now - slow_ms)
    for i = 1, #viewers do last[viewers[i]] = tonumber(redis.call('ZSCORE', spoke, viewers[i]) or 0) end
  end
  local full = redis.call('XLEN', KEYS[10]) >= archive_max
  local archived = {}
  for i = 1, #comments do
    local viewer, sub, _, name, text, staff, banned = unpack(comments[i])
    local had = said_now[fields[i]] or known[1][i] or known[2][i]
    if had then
      local bar = string.find(had, '|', 1, true)
      answers[i] = { 'replayed', tonumber(string.sub(had, 1, bar - 1)), tonumber(string.sub(had, bar + 1)) }
    elseif banned == 1 then
      answers[i] = { 'rejected' }
    elseif staff == 0 and tonumber(muted_until[i] or 0) > now then
      answers[i] = { 'muted', tonumber(muted_until[i]) - now }
    elseif staff == 0 and facts[15] == '0' then
      answers[i] = { 'comments_off' }
    elseif staff == 0 and slow_ms > 0 and last[viewer] <= now and last[viewer] + slow_ms > now then
      answers[i] = { 'slow_mode', last[viewer] + slow_ms - now }
    elseif full then
      answers[i] = { 'overloaded' }
    else
      n = n + 1
      answers[i] = { 'posted', n, now }
      said_now[fields[i]] = n .. '|' .. string.format('%d', now)
      last[viewer] = now
      archived[#archived + 1] = { 'c', n, now, viewer, sub, name, text }
      if staff == 1 then
        redis.call('RPUSH', pending, 's' .. cmsgpack.pack({ n, now, viewer, name, text }))
      elseif rate > 0 and waiting >= WAITING_MAX then
        skipped = skipped + 1
      else
        waiting = waiting + 1
        redis.call('RPUSH', pending, 'c' .. cmsgpack.pack({ n, now, viewer, name, text }))
      end
      if slow_ms > 0 then redis.call('ZADD', spoke, now, viewer) end
    end
  end
  if #archived > 0 then
    local remembered = {}
    for field, value in pairs(said_now) do
      remembered[#remembered + 1] = field
      remembered[#remembered + 1] = value
    end
    redis.call('HSET', said, unpack(remembered))
    redis.call('XADD', KEYS[10], '*', 'e', cmsgpack.pack({ room_no, epoch, archived }))
  end
end

-- Taps: a process tells how many it has had in this epoch, so that telling twice counts once.
if taps > 0 and taps_epoch == epoch then
  local counted = tonumber(redis.call('HGET', crowd, 'l:' .. process) or 0)
  if taps > counted then
    likes = likes + taps - counted
    redis.call('HSET', crowd, 'l:' .. process, taps)
  end
end

-- Stock: the newest reading wins, whichever process brings it last; what was told already is no news.
local stock_changed = facts[17] == '1'
for i = 1, #items do
  local field, version, event = items[i][1], items[i][2], ARGV[2 + i]
  local had = redis.call('HGET', stock, field)
  if not had or tonumber(string.sub(had, 1, string.find(had, '|', 1, true) - 1)) < version then
    redis.call('HSET', stock, field, string.format('%d', version) .. '|' .. event)
    stock_changed = stock_changed or redis.call('HGET', stock, 'told:' .. field) ~= event
  end
end

local set = { 'n', n, 'waiting', waiting, 'skipped', skipped, 'likes', string.format('%d', likes), 'stock', stock_changed and '1' or '0' }
local shown_likes, viewers, shown_viewers = fact(8), fact(9), fact(10)
local news = redis.call('LLEN', pending)
local something = news > 0 or skipped > 0 or stock_changed or likes ~= shown_likes or viewers ~= shown_viewers
interval = math.max(interval, fact(13))
local wait = cut_at + interval - now
if cut_at > now then wait = 0 end -- the clock went back
if not something or (wait > 0 and at_once == 0) then
  redis.call('HSET', room, unpack(set))
  if something then return cmsgpack.pack({ 'early', epoch, seq, now, wait, answers }) end
  return cmsgpack.pack({ 'quiet', epoch, seq, now, -1, answers })
end

-- The tick: what of the comments people can read, spread evenly over those that came, and everything else.
local may_show, tokens = waiting, 0
if rate > 0 then
  local burst = math.max(20, rate)
  tokens = math.min(burst, tonumber(facts[11] or burst) + math.max(0, now - fact(12)) * rate / 1000)
  may_show = math.min(waiting, math.floor(tokens))
  tokens = tokens - may_show
end
local events, at = {}, 0
if news > 0 then
  for _, item in ipairs(redis.call('LRANGE', pending, 0, -1)) do
    local shown = true
    if string.sub(item, 1, 1) == 'c' then
      shown = math.floor((at + 1) * may_show / waiting) > math.floor(at * may_show / waiting)
      at = at + 1
    end
    if shown then events[#events + 1] = string.sub(item, 2) end
  end
  redis.call('DEL', pending)
end
skipped = skipped + waiting - may_show
if stock_changed then
  local all = redis.call('HGETALL', stock)
  local told = {}
  for i = 1, #all, 2 do told[all[i]] = all[i + 1] end
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 5) ~= 'told:' then
      local event = string.sub(all[i + 1], string.find(all[i + 1], '|', 1, true) + 1)
      if told['told:' .. all[i]] ~= event then
        events[#events + 1] = event
        redis.call('HSET', stock, 'told:' .. all[i], event)
      end
    end
  end
end
seq = seq + 1
local count = #events
local head = count < 16 and string.char(0x90 + count) or string.char(0xdc, math.floor(count / 256), count % 256)
local tick = '\151' .. cmsgpack.pack(epoch) .. cmsgpack.pack(seq) .. cmsgpack.pack(now)
  .. (viewers ~= shown_viewers and cmsgpack.pack(viewers) or '\192')
  .. (likes ~= shown_likes and cmsgpack.pack(likes) or '\192')
  .. cmsgpack.pack(skipped) .. head .. table.concat(events)
redis.call('XADD', ticks, 'MAXLEN', HISTORY, string.format('%d-0', seq), 't', tick)
redis.call('PUBLISH', ARGV[2], tick)
-- What a room has of likes outlives this server as far as it was told.
if likes ~= shown_likes then redis.call('XADD', KEYS[10], '*', 'e', cmsgpack.pack({ room_no, epoch, { { 'l', likes } } })) end
set[4], set[6], set[10] = 0, 0, '0'
local more = { 'seq', seq, 'cut_at', string.format('%d', now), 'shown_likes', string.format('%d', likes), 'shown_viewers', viewers,
  'tokens', tostring(tokens), 'tokens_at', string.format('%d', now) }
for i = 1, #more do set[#set + 1] = more[i] end
redis.call('HSET', room, unpack(set))
-- A room that nobody comes to any more is forgotten; who comes back finds it made anew from the ledger.
if seq % 64 == 1 then
  for i = 1, 9 do redis.call('EXPIRE', KEYS[i], KEEP_S) end
end
return cmsgpack.pack({ 'cut', epoch, seq, now, -1, answers })
