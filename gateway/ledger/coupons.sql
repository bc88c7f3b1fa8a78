-- The queries of coupons.py.

-- name: place
-- The shop, and the number and time of a coupon to be.
SELECT shop_no, nextval(pg_get_serial_sequence('coupons', 'coupon_no'))::int AS coupon_no,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
  FROM shops WHERE shop = $1;

-- name: room
SELECT room_no FROM rooms WHERE room = $1 AND shop_no = $2;

-- name: bound
SELECT sale_no, sale, currency FROM sales WHERE sale = ANY($1::text[]) AND shop_no = $2;

-- name: newest_currency
SELECT currency FROM sales WHERE shop_no = $1 ORDER BY sale_no DESC LIMIT 1;

-- name: insert
INSERT INTO coupons (coupon_no, coupon, shop_no, room_no, title, kind, value_minor, percent, min_minor, max_minor, budget_minor,
                     threshold_minor, copies, limit_per_viewer, currency, claim_from_ms, claim_until_ms, valid_until_ms,
                     created_at_ms)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19);

-- name: insert_sales
INSERT INTO coupon_sales (coupon_no, sale_no) SELECT $1, unnest($2::int[]);

-- name: by_number
SELECT k.coupon_no, k.coupon, h.shop, h.shard, r.room, k.title, k.kind, k.currency, k.value_minor, k.percent, k.min_minor,
       k.max_minor, k.budget_minor, k.threshold_minor, k.copies, k.limit_per_viewer, k.claim_from_ms, k.claim_until_ms,
       k.valid_until_ms, k.created_at_ms, k.retired_at IS NOT NULL AS retired, k.loaded_epoch, d.room AS dropped_room,
       ARRAY(SELECT b.sale_no FROM coupon_sales b WHERE b.coupon_no = k.coupon_no ORDER BY b.sale_no) AS sales
  FROM coupons k
  JOIN shops h USING (shop_no)
  LEFT JOIN rooms r ON r.room_no = k.room_no
  LEFT JOIN rooms d ON d.room_no = k.dropped_room_no
 WHERE k.coupon_no = ANY($1::int[]);

-- name: of_shop
-- Numbers of a shop's coupons, newest first, behind a given number; only of the named rooms where names are given.
SELECT k.coupon_no FROM coupons k JOIN shops h USING (shop_no) LEFT JOIN rooms r ON r.room_no = k.room_no
 WHERE h.shop = $1 AND ($2::int IS NULL OR k.coupon_no < $2) AND ($3::text[] IS NULL OR r.room = ANY($3))
 ORDER BY k.coupon_no DESC
 LIMIT $4;

-- name: of_room_behind
-- Numbers of a shop's coupons that were made for a room or dropped there, newest first, behind a given number; only of the
-- named rooms where names are given.
SELECT k.coupon_no
  FROM (SELECT coupon_no FROM coupons WHERE room_no = $1
         UNION SELECT coupon_no FROM coupons WHERE dropped_room_no = $1
         UNION SELECT coupon_no FROM coupon_acts WHERE room_no = $1 AND after IS NOT NULL) u
  JOIN coupons k USING (coupon_no)
  JOIN shops h USING (shop_no)
  LEFT JOIN rooms r ON r.room_no = k.room_no
 WHERE h.shop = $2 AND ($3::int IS NULL OR k.coupon_no < $3) AND ($4::text[] IS NULL OR r.room = ANY($4))
 ORDER BY k.coupon_no DESC
 LIMIT $5;

-- name: of_room
-- Numbers of coupons made for a room, or dropped there last, newest first.
SELECT coupon_no FROM coupons WHERE room_no = $1 OR dropped_room_no = $1 ORDER BY coupon_no DESC LIMIT $2;

-- name: unloaded
-- Numbers of coupons that Valkey was given neither in an epoch nor before it, and that may still be used.
SELECT k.coupon_no FROM coupons k JOIN shops h USING (shop_no)
 WHERE (k.loaded_epoch IS NULL OR k.loaded_epoch > $2) AND k.retired_at IS NULL AND k.forgotten_at IS NULL AND h.shard = $1
   AND k.valid_until_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint
 ORDER BY k.coupon_no
 LIMIT $3;

-- name: is_loaded
SELECT loaded_epoch IS NOT NULL FROM coupons WHERE coupon_no = $1;

-- name: mark_loaded
UPDATE coupons SET loaded_epoch = $2 WHERE coupon_no = $1 AND loaded_epoch IS DISTINCT FROM $2;

-- name: counts
SELECT k.coupon_no, k.claimed, k.spent_minor,
       (SELECT count(*) FROM claims c WHERE c.coupon_no = k.coupon_no AND c.state = 'redeemed')::int AS redeemed
  FROM coupons k WHERE k.coupon_no = ANY($1::int[]);

-- name: of_viewer
-- A viewer's claims in a shop, newest first, behind a given claim.
SELECT c.* FROM claims c JOIN coupons k USING (coupon_no) JOIN shops h USING (shop_no)
 WHERE c.viewer = $1 AND h.shop = $2 AND ($3::text IS NULL OR c.claim < $3)
 ORDER BY c.claim DESC
 LIMIT $4;

-- name: of_coupon
-- The claims of a coupon in the order they were decided, behind a given place.
SELECT * FROM claims WHERE coupon_no = $1 AND (epoch, seq) > ($2, $3::bigint) ORDER BY epoch, seq LIMIT $4;

-- name: by_keys
-- Claims by (viewer, coupon, key), many at once; a claim that was refused holds none.
SELECT c.* FROM unnest($1::text[], $2::int[], $3::text[]) AS u(viewer, coupon_no, key)
  JOIN claims c ON c.viewer = u.viewer AND c.coupon_no = u.coupon_no AND c.key = u.key;

-- name: by_place
-- Claims by (coupon, epoch, sequence number), many at once.
SELECT c.* FROM unnest($1::int[], $2::int[], $3::bigint[]) AS u(coupon_no, epoch, seq)
  JOIN claims c ON c.coupon_no = u.coupon_no AND c.epoch = u.epoch AND c.seq = u.seq;

-- name: lost
-- Of claims by (coupon, claim id, epoch, sequence number): those the ledger does not have, though its cursor is past them.
SELECT u.claim
  FROM unnest($1::int[], $2::text[], $3::int[], $4::bigint[]) AS u(coupon_no, claim, epoch, seq)
  JOIN coupons k ON k.coupon_no = u.coupon_no
  JOIN shops h ON h.shop_no = k.shop_no
  JOIN shards d ON d.shard = h.shard AND (u.epoch, u.seq) <= (d.epoch, d.last_seq)
 WHERE NOT EXISTS (SELECT FROM claims c WHERE c.coupon_no = u.coupon_no AND c.epoch = u.epoch AND c.seq = u.seq);

-- name: drops
SELECT a.epoch, a.seq, r.room, a.actor, a.at_ms, a.before, a.after
  FROM coupon_acts a LEFT JOIN rooms r USING (room_no)
 WHERE a.coupon_no = $1 ORDER BY a.epoch, a.seq;

-- name: was_refused
SELECT EXISTS (SELECT FROM coupon_acts
                WHERE shard = $1::int2 AND epoch = $2 AND seq = $3 AND coupon_no = $4 AND after IS NULL);
