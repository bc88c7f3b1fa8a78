-- The queries of room_acts.py.

-- name: insert
INSERT INTO room_acts (room_no, at_ms, act, actor, before, after, told)
VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $2, $3, $4, $5, $6)
RETURNING act_no, at_ms;

-- name: next_no
SELECT nextval(pg_get_serial_sequence('room_acts', 'act_no'));

-- name: announce
INSERT INTO room_acts (act_no, room_no, at_ms, act, actor, after, told)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 'announce', $3, $4, false);

-- name: announced
SELECT at_ms, told FROM room_acts WHERE act_no = $1;

-- name: told
UPDATE room_acts SET told = true WHERE act_no = $1 AND NOT told;

-- name: retracted
SELECT (after -> 'unpinned')::boolean AS unpinned FROM room_acts
 WHERE room_no = $1 AND act = 'retract' AND after ->> 'comment' = $2;

-- name: unpinned
-- Whether the pin ever went when all of a viewer was taken back.
SELECT EXISTS (SELECT FROM room_acts
                WHERE room_no = $1 AND act = 'retract_all' AND after ->> 'viewer' = $2 AND (after -> 'unpinned')::boolean);

-- name: of_room
-- Acts on a room, on its sales, and of coupons in it, newest first, behind a given place: (time, 1 for a room and 0 for a
-- sale or coupon, whose acts share a stream, epoch, number).
SELECT * FROM (
    (SELECT a.at_ms, 1 AS of_room, 0 AS epoch, a.act_no AS no, a.act, a.actor, NULL AS sale, NULL AS coupon,
            a.before::text AS before, a.after::text AS after, NULL AS reason
       FROM room_acts a
      WHERE a.room_no = $1 AND a.at_ms <= $2 AND (a.at_ms, 1, 0, a.act_no) < ($2, $3::int, $4::int, $5::bigint)
      ORDER BY a.at_ms DESC, a.act_no DESC
      LIMIT $6)
    UNION ALL
    (SELECT a.at_ms, 0, a.epoch, a.seq, a.act, a.actor, s.sale, NULL,
            to_json(a.before)::text, to_json(a.after)::text, a.reason
       FROM sales s JOIN acts a USING (sale_no)
      WHERE s.room_no = $1 AND (a.at_ms, 0, a.epoch, a.seq) < ($2, $3::int, $4::int, $5::bigint)
      ORDER BY a.at_ms DESC, a.epoch DESC, a.seq DESC
      LIMIT $6)
    UNION ALL
    (SELECT a.at_ms, 0, a.epoch, a.seq, a.act, a.actor, NULL, c.coupon,
            to_json(a.before)::text, to_json(a.after)::text, NULL
       FROM coupon_acts a JOIN coupons c USING (coupon_no)
      WHERE a.room_no = $1 AND a.at_ms <= $2 AND (a.at_ms, 0, a.epoch, a.seq) < ($2, $3::int, $4::int, $5::bigint)
      ORDER BY a.at_ms DESC, a.epoch DESC, a.seq DESC
      LIMIT $6)
) AS merged
 ORDER BY at_ms DESC, of_room DESC, epoch DESC, no DESC
 LIMIT $6;
