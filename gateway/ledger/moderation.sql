-- The queries of moderation.py. Times in ms are this ledger's.

-- name: make
INSERT INTO room_chat (room_no) SELECT room_no FROM rooms WHERE room_no = $1 ON CONFLICT DO NOTHING;

-- name: lock
SELECT c.slow_mode_s, c.comments, c.pin::text AS pin, r.shop_no,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
  FROM room_chat c JOIN rooms r USING (room_no) WHERE c.room_no = $1
   FOR UPDATE OF c;

-- name: standing
-- Who is banned is mute for good, so that nobody speaks who was not shown out yet.
SELECT c.slow_mode_s, c.comments, c.pin::text AS pin, coalesce(c.likes, 0) AS likes,
       (SELECT json_object_agg(m.viewer, m.until_ms) FROM (
            SELECT u.viewer, max(u.until_ms) AS until_ms FROM (
                SELECT viewer, until_ms FROM room_mutes
                 WHERE room_no = r.room_no AND until_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint
                 UNION ALL
                SELECT viewer, $2::bigint FROM room_bans WHERE room_no = r.room_no) AS u
             GROUP BY u.viewer) AS m)::text AS mutes
  FROM rooms r LEFT JOIN room_chat c USING (room_no) WHERE r.room_no = $1;

-- name: rules_no
SELECT coalesce(c.rules_no, 0) AS room, coalesce(s.rules_no, 0) AS shop
  FROM rooms r LEFT JOIN room_chat c USING (room_no) LEFT JOIN shop_rules s USING (shop_no) WHERE r.room_no = $1;

-- name: look
SELECT r.room_no, r.state, coalesce(c.rules_no, 0) AS room, coalesce(s.rules_no, 0) AS shop
  FROM rooms r LEFT JOIN room_chat c USING (room_no) LEFT JOIN shop_rules s USING (shop_no) WHERE r.room_no = ANY($1::int[]);

-- name: rules
SELECT ARRAY(SELECT viewer FROM room_bans WHERE room_no = r.room_no) AS bans,
       ARRAY(SELECT DISTINCT word FROM banned_words
              WHERE shop_no = r.shop_no AND (room_no IS NULL OR room_no = r.room_no)) AS words,
       (SELECT json_object_agg(o.room, o.viewers) FROM (
            SELECT e.room, json_agg(b.viewer) AS viewers FROM room_bans b JOIN rooms e ON e.room_no = b.room_no
             WHERE b.shop_no = r.shop_no AND b.shop_wide GROUP BY e.room) AS o)::text AS shop_bans
  FROM rooms r WHERE r.room_no = $1;

-- name: room_rules_changed
UPDATE room_chat SET rules_no = rules_no + 1 WHERE room_no = $1;

-- name: shop_rules_changed
INSERT INTO shop_rules (shop_no, rules_no) VALUES ($1, 1)
    ON CONFLICT (shop_no) DO UPDATE SET rules_no = shop_rules.rules_no + 1;

-- name: place
SELECT shop_no, state FROM rooms WHERE room_no = $1 FOR SHARE;

-- name: set_chat
UPDATE room_chat SET slow_mode_s = $2, comments = $3 WHERE room_no = $1;

-- name: set_pin
UPDATE room_chat SET pin = $2 WHERE room_no = $1;

-- name: muted_until
SELECT until_ms FROM room_mutes WHERE room_no = $1 AND viewer = $2 AND until_ms > $3;

-- name: forget_mutes
-- Those that are over.
DELETE FROM room_mutes WHERE room_no = $1 AND until_ms <= $2;

-- name: mute
INSERT INTO room_mutes (room_no, viewer, until_ms) VALUES ($1, $2, $3)
    ON CONFLICT (room_no, viewer) DO UPDATE SET until_ms = excluded.until_ms, mute_no = DEFAULT;

-- name: unmute
DELETE FROM room_mutes WHERE room_no = $1 AND viewer = $2;

-- name: count_mutes
SELECT count(*) FROM room_mutes WHERE room_no = $1;

-- name: banned
SELECT shop_wide FROM room_bans WHERE room_no = $1 AND viewer = $2;

-- name: ban
INSERT INTO room_bans (room_no, viewer, shop_no, shop_wide) VALUES ($1, $2, $3, $4)
    ON CONFLICT (room_no, viewer) DO UPDATE SET shop_wide = excluded.shop_wide, ban_no = DEFAULT;

-- name: unban
DELETE FROM room_bans WHERE room_no = $1 AND viewer = $2;

-- name: count_bans
SELECT count(*) FROM room_bans WHERE room_no = $1;

-- name: ban_word
-- Of the whole shop without a room; nothing is returned when it is there.
INSERT INTO banned_words (shop_no, room_no, word) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING word_no;

-- name: word_scopes
-- Where a word is banned for a room: each true (the whole shop) or false (the room).
SELECT room_no IS NULL AS shop_wide FROM banned_words
 WHERE shop_no = $1 AND (room_no IS NULL OR room_no = $2) AND word = $3
 ORDER BY 1;

-- name: allow_word
DELETE FROM banned_words WHERE shop_no = $1 AND (room_no IS NULL OR room_no = $2) AND word = $3;

-- name: count_words
SELECT count(*) FROM banned_words WHERE shop_no = $1 AND room_no IS NOT DISTINCT FROM $2;

-- name: words
-- Newest first, behind a given number.
SELECT w.word_no, w.word, w.room_no IS NULL AS shop_wide FROM banned_words w JOIN rooms r ON r.shop_no = w.shop_no
 WHERE r.room_no = $1 AND (w.room_no IS NULL OR w.room_no = $1) AND ($2::bigint IS NULL OR w.word_no < $2)
 ORDER BY w.word_no DESC
 LIMIT $3;

-- name: mutes
-- Those that are not over, newest first, behind a given number; with the name the viewer last spoke under, if any is archived.
-- An aggregate, so that one viewer's comments are read and not the room's from its end.
SELECT m.mute_no AS no, m.viewer, m.until_ms,
       (SELECT nullif((array_agg(c.name ORDER BY c.epoch DESC, c.n DESC))[1], '') FROM comments c
         WHERE c.room_no = m.room_no AND c.viewer = m.viewer) AS name
  FROM (SELECT * FROM room_mutes
         WHERE room_no = $1 AND until_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint
           AND ($2::bigint IS NULL OR mute_no < $2)
         ORDER BY mute_no DESC
         LIMIT $3) AS m
 ORDER BY m.mute_no DESC;

-- name: bans
-- Of the room and, with $4, those of its shop that were spoken in other rooms; as above.
SELECT b.ban_no AS no, r.room, b.viewer, b.shop_wide,
       (SELECT nullif((array_agg(c.name ORDER BY c.epoch DESC, c.n DESC))[1], '') FROM comments c
         WHERE c.room_no = b.room_no AND c.viewer = b.viewer) AS name
  FROM (SELECT * FROM (
            SELECT * FROM room_bans WHERE room_no = $1
             UNION
            SELECT * FROM room_bans
             WHERE $4 AND shop_wide AND shop_no = (SELECT shop_no FROM rooms WHERE room_no = $1)) AS either
         WHERE $2::bigint IS NULL OR ban_no < $2
         ORDER BY ban_no DESC
         LIMIT $3) AS b
  JOIN rooms r USING (room_no)
 ORDER BY b.ban_no DESC;

-- name: comment_gone
-- In the archive; one that is not there yet is marked on its way there.
UPDATE comments SET gone_at = clock_timestamp(), gone_by = $5
 WHERE room_no = $1 AND at_ms = $2 AND n = $3 AND epoch & 65535 = $4 AND gone_at IS NULL;

-- name: viewer_gone
UPDATE comments SET gone_at = clock_timestamp(), gone_by = $3
 WHERE room_no = $1 AND viewer = $2 AND gone_at IS NULL;
