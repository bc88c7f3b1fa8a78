-- The queries of bookings.py.

-- name: book
-- The room's row is locked as its start locks it: either the start sees the booking, or the booking sees the start.
INSERT INTO bookings (room_no, viewer)
SELECT room_no, $2 FROM rooms WHERE room_no = $1 AND state = 'scheduled' FOR SHARE
ON CONFLICT DO NOTHING RETURNING booked_at_ms;

-- name: find
SELECT booked_at_ms FROM bookings WHERE room_no = $1 AND viewer = $2;

-- name: cancel
WITH room AS (SELECT room_no FROM rooms WHERE room_no = $1 AND state = 'scheduled' FOR SHARE)
DELETE FROM bookings b USING room WHERE b.room_no = room.room_no AND b.viewer = $2;

-- name: count
SELECT count(*) FROM bookings WHERE room_no = $1;

-- name: calls
-- Rooms that started and have bookings to be told of it.
SELECT room_no FROM booking_calls WHERE told_at IS NULL ORDER BY room_no LIMIT $1;

-- name: tell
SELECT tell_bookings($1, $2);
