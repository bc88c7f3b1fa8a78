-- The queries of attendance.py.

-- name: count
SELECT count_attendance($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: live_rooms
SELECT room_no FROM rooms WHERE state = 'live';

-- name: sample
-- Two keepers look at the same intervals.
INSERT INTO room_samples AS s (room_no, at_ms, viewers, peak)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::int[], $4::int[])
    ON CONFLICT (room_no, at_ms) DO UPDATE SET viewers = excluded.viewers, peak = greatest(s.peak, excluded.peak);
