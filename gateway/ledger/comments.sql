-- The queries of comments.py.

-- name: alone
-- Whether this transaction is the only one that archives; the number is an arbitrary one.
SELECT pg_try_advisory_xact_lock(7310270007);

-- name: insert
INSERT INTO comments (room_no, epoch, n, at_ms, viewer, sub, name, text)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[])
    ON CONFLICT DO NOTHING;

-- name: comment_gone
UPDATE comments SET gone_at = clock_timestamp(), gone_by = $4
 WHERE room_no = $1 AND epoch = $2 AND n = $3 AND gone_at IS NULL;

-- name: viewer_gone
-- Also what they said before the room was lost and opened anew: a later epoch is a larger one.
UPDATE comments SET gone_at = clock_timestamp(), gone_by = $5
 WHERE room_no = $1 AND (epoch, n) <= ($2, $3) AND viewer = $4 AND gone_at IS NULL;

-- name: likes
-- Of rooms this ledger has; they only grow.
INSERT INTO room_chat (room_no, likes)
SELECT u.room_no, u.likes FROM unnest($1::int[], $2::bigint[]) AS u(room_no, likes) JOIN rooms USING (room_no)
    ON CONFLICT (room_no) DO UPDATE SET likes = greatest(room_chat.likes, excluded.likes);

-- name: find
-- By what a comment id says; of the epoch it has the last 16 bits only.
SELECT room_no, epoch, n, at_ms, viewer, sub, name, text FROM comments
 WHERE room_no = $1 AND at_ms = $2 AND n = $3 AND epoch & 65535 = $4 AND gone_at IS NULL;

-- name: of_room
SELECT room_no, epoch, n, at_ms, viewer, sub, name, text, gone_at, gone_by FROM comments
 WHERE room_no = $1 AND (epoch, n) > ($2, $3)
 ORDER BY epoch, n
 LIMIT $4;
