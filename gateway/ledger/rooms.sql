-- The queries of rooms.py.

-- name: place
-- The shop, and the number and time of a room to be.
SELECT shop_no, nextval(pg_get_serial_sequence('rooms', 'room_no'))::int AS room_no,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
  FROM shops WHERE shop = $1;

-- name: insert
INSERT INTO rooms (room_no, room, shop_no, title, starts_at_ms, stream_url, notice, created_at_ms)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: hold_shop
-- Rooms of a shop that are made at once are counted one after the other. A statement of its own: what a statement sees is
-- settled before it waits.
SELECT 1 FROM shops WHERE shop_no = $1 FOR NO KEY UPDATE;

-- name: newest_but
-- What the shop may make a day, and when it made the last room but so many: if that was today, it has made as many today.
SELECT rooms_a_day, CASE WHEN rooms_a_day > 0 THEN (
           SELECT created_at_ms FROM rooms WHERE shop_no = $1
            ORDER BY room_no DESC OFFSET greatest(rooms_a_day - 1, 0) LIMIT 1) END AS created_at_ms
  FROM (SELECT coalesce((SELECT rooms_a_day FROM shop_limits WHERE shop_no = $1), $2) AS rooms_a_day) AS allowed;

-- name: find
SELECT r.*, h.shop FROM rooms r JOIN shops h USING (shop_no) WHERE r.room_no = $1;

-- name: of_shop
-- A shop's rooms, newest first, behind a given number; only the named ones where names are given.
SELECT r.*, h.shop FROM rooms r JOIN shops h USING (shop_no)
 WHERE h.shop = $1 AND ($2::int IS NULL OR r.room_no < $2) AND ($3::text[] IS NULL OR r.room = ANY($3))
 ORDER BY r.room_no DESC
 LIMIT $4;

-- name: not_ended_of
SELECT r.*, h.shop FROM rooms r JOIN shops h USING (shop_no)
 WHERE h.shop = $1 AND r.state <> 'ended'
 ORDER BY r.state = 'live' DESC, r.room_no DESC
 LIMIT $2;

-- name: lock
SELECT r.*, h.shop FROM rooms r JOIN shops h USING (shop_no) WHERE r.room_no = $1 FOR UPDATE OF r;

-- name: set_state
-- A state once passed does not come back: nothing changes an ended room, and a live one starts no second time.
UPDATE rooms SET state = $2, changed_at = clock_timestamp(),
       started_at_ms = CASE WHEN $2 = 'live' THEN (extract(epoch FROM clock_timestamp()) * 1000)::bigint
                            ELSE started_at_ms END,
       ended_at_ms = CASE WHEN $2 = 'ended' THEN (extract(epoch FROM clock_timestamp()) * 1000)::bigint END
 WHERE room_no = $1 AND state <> $2 AND state <> 'ended'
RETURNING true;

-- name: change
UPDATE rooms SET title = $2, starts_at_ms = $3, stream_url = $4, notice = $5, changed_at = clock_timestamp()
 WHERE room_no = $1;
