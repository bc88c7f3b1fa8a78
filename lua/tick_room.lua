#!lua
-- tick_room: take what a process brings for a room, answer its comments, and cut the room's tick when it is due.
-- KEYS[1] room     hash    epoch, seq (of the last tick), cut_at ms, n (last comment number), waiting (comments that wait), skipped,
--                          likes, shown_likes, kept_likes (archived) and likes_at ms (of the last try), viewers, shown_viewers, tokens and
--                          tokens_at (comments that may be shown), interval ms (the longest of all processes), slow_mode_s, comments (1 or 0),
--                          said_in (period of 5 minutes)
-- KEYS[2] pending  list    what waits for the next tick: a tag (c comment, s comment of staff, e event), then msgpack
-- KEYS[3] ticks    stream  the last ticks, id seq-0, field t
-- KEYS[4] crowd    hash    l:process -> taps of that process in this epoch
-- KEYS[5] mutes    hash    viewer -> until ms
-- KEYS[6] spoke    zset    viewer -> ms of their last comment; kept in slow mode only
-- KEYS[7] stock    hash    sale|sku -> version|packed event of the newest reading;  told:sale|sku -> the packed event told last
-- KEYS[8] said:0   KEYS[9] said:1  hashes  viewer|id -> number|at ms of the comment; each period in one, so that they can be forgotten
-- KEYS[10] archive stream  what was said, until the ledger has it
-- KEYS[11] untold  zset    sale|sku -> ms since when it waits to be told; KEYS[7] is never read whole, it has all that was ever sold
-- KEYS[12] archive size    how many comments the archive has at most
-- ARGV[1] msgpack [room no, process, interval ms, at once (1 or 0), comments shown a second (0: all), epoch the taps are of, taps so far,
--         archive entries at most (and twice as many comments), comments [[viewer, sub, id, name, text, staff (1 or 0), banned words (1 or 0)]...], stock [[sale|sku, version]...]]
-- ARGV[2] channel of the room  ARGV[3..] the event of each stock, packed
-- Returns [word, epoch, seq, now ms, ms after which the caller sees to what still waits (-1: nothing does), answers]:
--   cut | early (a tick waits for its time) | quiet (nothing to tell) | unknown (this server does not have the room)
-- One answer a comment, an array that begins with its word:
--   posted number at_ms | replayed number at_ms | rejected | muted wait_ms | slow_mode wait_ms | comments_off | overloaded (the ledger is too far behind)
-- A tick is msgpack [epoch, seq, now ms, viewers|nil, likes|nil, skipped, [event...]].
local HISTORY, PERIOD_MS, WAITING_MAX, KEEP_S, KEEP_AGAIN_S = 600, 300000, 200, 604800, 601200
-- A call brings so many comments at most; telling so much stock takes the server one or two milliseconds.
local COMMENTS_A_CALL, STOCK_A_TICK, LIKES_EVERY_MS = 200, 200, 1000
local room, pending, ticks, crowd, mutes, spoke, stock = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local archive, untold, archive_size = KEYS[10], KEYS[11], KEYS[12]
local room_no, process, interval, at_once, rate, taps_epoch, taps, archive_max, comments, items = unpack(cmsgpack.unpack(ARGV[1]))

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local FACTS = { 'epoch', 'seq', 'cut_at', 'n', 'waiting', 'skipped', 'likes', 'shown_likes', 'kept_likes', 'likes_at', 'viewers',
  'shown_viewers', 'tokens', 'tokens_at', 'interval', 'slow_mode_s', 'comments', 'said_in' }
local facts = {}
for i, value in ipairs(redis.call('HMGET', room, unpack(FACTS))) do facts[FACTS[i]] = value end
local function fact(name) return tonumber(facts[name] or 0) end
if not facts.epoch then return cmsgpack.pack({ 'unknown', 0, 0, now, -1, {} }) end
local epoch, seq, cut_at, n = fact('epoch'), fact('seq'), fact('cut_at'), fact('n')
local waiting, skipped, likes = fact('waiting'), fact('skipped'), fact('likes')
local kept_likes, likes_at = fact('kept_likes'), fact('likes_at')
-- A key begins without an end, so whoever writes one that may be new says when it is forgotten.
local function keep(key) redis.call('EXPIRE', key, KEEP_S) end

-- Comments: decided in their order, so that those of one call see each other.
local answers, said_now = {}, {}
if #comments > 0 then
  local period = math.floor(now / PERIOD_MS)
  if period == fact('said_in') - 1 then period = fact('said_in') end -- the clock went back: what was said in this period stays known
  local said, before = KEYS[8 + period % 2], KEYS[9 - period % 2]
  if fact('said_in') ~= period then
    -- What this hash holds is two periods old; what the other one holds is one old, or as old.
    redis.call('DEL', said)
    if fact('said_in') < period - 1 then redis.call('DEL', before) end
    redis.call('HSET', room, 'said_in', string.format('%d', period))
  end
  local fields, viewers = {}, {}
  for i = 1, #comments do
    viewers[i] = comments[i][1]
    fields[i] = viewers[i] .. '|' .. comments[i][3]
  end
  local known = { redis.call('HMGET', said, unpack(fields)), redis.call('HMGET', before, unpack(fields)) }
  local muted_until = redis.call('HMGET', mutes, unpack(viewers))
  local slow_ms, last = fact('slow_mode_s') * 1000, {}
  if slow_ms > 0 then
    redis.call('ZREMRANGEBYSCORE', spoke, 0, now - slow_ms)
    for i = 1, #viewers do last[viewers[i]] = tonumber(redis.call('ZSCORE', spoke, viewers[i]) or 0) end
  end
  -- An entry has one comment or a call's, so entries alone bound no memory. What is counted is never less than what is there:
  -- it grows with each comment, and where the ledger has taken entries away it falls to the most that those left can hold.
  local entries = redis.call('XLEN', archive)
  local unkept = math.min(tonumber(redis.call('GET', archive_size) or 0), entries * COMMENTS_A_CALL)
  local full = entries >= archive_max or unkept >= 2 * archive_max
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
    elseif staff == 0 and facts.comments == '0' then
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
    redis.call('XADD', archive, '*', 'e', cmsgpack.pack({ room_no, epoch, archived }))
    redis.call('SET', archive_size, unkept + #archived)
    keep(said)
    keep(pending)
    if slow_ms > 0 then keep(spoke) end
  end
end

-- Taps: a process tells how many it has had in this epoch, so that telling twice counts once.
if taps > 0 and taps_epoch == epoch then
  local counted = tonumber(redis.call('HGET', crowd, 'l:' .. process) or 0)
  if taps > counted then
    likes = likes + taps - counted
    redis.call('HSET', crowd, 'l:' .. process, taps)
    keep(crowd)
  end
end

-- What a room has of likes outlives this server but for the last second. Whoever is told to wait for that second brings the last
-- of them, also when nobody taps any more. They stop at half of the archive: comments are never refused because of likes.
local likes_wait = -1
if likes ~= kept_likes then
  likes_wait = likes_at + LIKES_EVERY_MS - now
  if likes_wait <= 0 or likes_at > now then
    likes_at, likes_wait = now, LIKES_EVERY_MS
    if redis.call('XLEN', archive) < archive_max / 2 then
      redis.call('XADD', archive, '*', 'e', cmsgpack.pack({ room_no, epoch, { { 'l', likes } } }))
      kept_likes, likes_wait = likes, -1
    end
  end
end

-- Stock: the newest reading wins, whichever process brings it last; what was told already is no news.
for i = 1, #items do
  local field, version, event = items[i][1], items[i][2], ARGV[2 + i]
  local had, told = unpack(redis.call('HMGET', stock, field, 'told:' .. field))
  if not had or tonumber(string.sub(had, 1, string.find(had, '|', 1, true) - 1)) < version then
    redis.call('HSET', stock, field, string.format('%d', version) .. '|' .. event)
    if told == event then redis.call('ZREM', untold, field)
    else redis.call('ZADD', untold, 'NX', string.format('%d', now), field) end
  end
end
if #items > 0 then
  keep(stock)
  keep(untold)
end

local shown_likes, viewers, shown_viewers = fact('shown_likes'), fact('viewers'), fact('shown_viewers')
local news, stock_waits = redis.call('LLEN', pending), redis.call('ZCARD', untold)
local something = news > 0 or skipped > 0 or stock_waits > 0 or likes ~= shown_likes or viewers ~= shown_viewers
interval = math.max(interval, fact('interval'))
local wait = cut_at + interval - now
if cut_at > now then wait = 0 end -- the clock went back
if not something or (wait > 0 and at_once == 0) then
  redis.call('HSET', room, 'n', n, 'waiting', waiting, 'skipped', skipped, 'likes', string.format('%d', likes),
    'kept_likes', string.format('%d', kept_likes), 'likes_at', string.format('%d', likes_at))
  if something then return cmsgpack.pack({ 'early', epoch, seq, now, wait, answers }) end
  return cmsgpack.pack({ 'quiet', epoch, seq, now, likes_wait, answers })
end

-- The tick: what of the comments people can read, spread evenly over those that came, and everything else.
local may_show, tokens = waiting, 0
if rate > 0 then
  local burst = math.max(20, rate)
  tokens = math.min(burst, tonumber(facts.tokens or burst) + math.max(0, now - fact('tokens_at')) * rate / 1000)
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
if stock_waits > 0 then
  -- What waits longest goes first; a room whose items all change at once is told so over some ticks.
  local due, told = redis.call('ZPOPMIN', untold, STOCK_A_TICK), {}
  for i = 1, #due, 2 do
    local had = redis.call('HGET', stock, due[i])
    if had then
      local event = string.sub(had, string.find(had, '|', 1, true) + 1)
      events[#events + 1] = event
      told[#told + 1] = 'told:' .. due[i]
      told[#told + 1] = event
    end
  end
  if #told > 0 then redis.call('HSET', stock, unpack(told)) end
  stock_waits = stock_waits - #due / 2
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
redis.call('HSET', room, 'n', n, 'waiting', 0, 'skipped', 0, 'likes', string.format('%d', likes),
  'kept_likes', string.format('%d', kept_likes), 'likes_at', string.format('%d', likes_at),
  'seq', seq, 'cut_at', string.format('%d', now), 'shown_likes', string.format('%d', likes), 'shown_viewers', viewers,
  'tokens', tostring(tokens), 'tokens_at', string.format('%d', now))
-- A room that nobody comes to any more is forgotten; who comes back finds it made anew from the ledger. Its keys are kept on
-- together, so that no mute ends before the room.
if seq == 1 or redis.call('TTL', room) < KEEP_AGAIN_S then
  for i = 1, 9 do keep(KEYS[i]) end
  keep(untold)
end
wait = likes_wait
if stock_waits > 0 then wait = likes_wait < 0 and interval or math.min(interval, likes_wait) end
return cmsgpack.pack({ 'cut', epoch, seq, now, wait, answers })
