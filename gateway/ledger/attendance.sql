-- The queries of attendance.py.

-- name: count
SELECT count_attendance($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: live_rooms
SELECT room_no FROM rooms WHERE state = 'live';

-- name: sample
-- Two keepers look at the same intervals. Likes are those the ledger was told of, half a second after they were counted.
INSERT INTO room_samples AS s (room_no, at_ms, viewers, peak, likes)
SELECT u.room_no, u.at_ms, u.viewers, u.peak, coalesce(c.likes, 0)
  FROM unnest($1::int[], $2::bigint[], $3::int[], $4::int[]) AS u(room_no, at_ms, viewers, peak)
  LEFT JOIN room_chat c USING (room_no)
    ON CONFLICT (room_no, at_ms) DO UPDATE SET viewers = excluded.viewers, peak = greatest(s.peak, excluded.peak),
                                               likes = greatest(s.likes, excluded.likes);
