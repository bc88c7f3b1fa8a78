-- The queries of figures.py, each about the room $1; all of a reading are run in one snapshot.

-- name: room_no
SELECT room_no FROM rooms WHERE room = $1;

-- name: standing
-- The room, and up to where the ledger has applied the stream of its shop.
SELECT r.room, r.title, r.started_at_ms, r.ended_at_ms, d.shard, d.epoch, d.last_seq,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms,
       (SELECT count(*) FROM bookings b WHERE b.room_no = r.room_no) AS bookings,
       coalesce((SELECT c.likes FROM room_chat c WHERE c.room_no = r.room_no), 0) AS likes,
       (SELECT max(s.peak) FROM room_samples s WHERE s.room_no = r.room_no) AS viewers_peak
  FROM rooms r
  JOIN shops h ON h.shop_no = r.shop_no
  JOIN shards d ON d.shard = h.shard
 WHERE r.room_no = $1;

-- name: audience
-- $2: how long the show has lasted, $3: which part of it counts as all of it.
SELECT count(*) AS viewers, coalesce(sum(visits), 0)::bigint AS visits, coalesce(sum(watch_ms), 0)::bigint AS watch_ms,
       coalesce(sum(shop_entries), 0)::bigint AS shop_entries, count(*) FILTER (WHERE shop_entries > 0) AS shop_viewers,
       count(*) FILTER (WHERE show_ms >= $2::bigint * $3::float8) AS watched
  FROM room_viewers
 WHERE room_no = $1;

-- name: audience_error
-- A process that has said nothing for $2 seconds while it had sockets is taken for dead.
SELECT coalesce(sum(o.open) FILTER (WHERE m.at IS NULL OR m.at < clock_timestamp() - make_interval(secs => $2)), 0)::bigint
           AS cut_sockets,
       coalesce(sum(o.missed), 0)::bigint AS missed
  FROM attendance_open o LEFT JOIN attendance_marks m USING (process)
 WHERE o.room_no = $1;

-- name: comments
SELECT count(*) AS comments, count(DISTINCT sub) AS commenters FROM comments WHERE room_no = $1;

-- name: money
-- Of each currency of the room's sales, that with most orders first, then that of the oldest sale.
SELECT s.currency, count(o.order_id) AS placed, count(o.confirmed_at) AS confirmed,
       count(*) FILTER (WHERE o.status = 'paid') AS paid, count(*) FILTER (WHERE o.status = 'expired') AS expired,
       coalesce(sum(o.amount_minor), 0)::bigint AS placed_minor,
       coalesce(sum(o.amount_minor) FILTER (WHERE o.status = 'paid'), 0)::bigint AS paid_minor
  FROM sales s LEFT JOIN orders o ON o.sale_no = s.sale_no
 WHERE s.room_no = $1
 GROUP BY s.currency
 ORDER BY placed DESC, min(s.sale_no);

-- name: peak
SELECT coalesce(max(n), 0) AS peak
  FROM (SELECT count(*) AS n FROM sales s JOIN orders o USING (sale_no)
         WHERE s.room_no = $1 GROUP BY o.created_at_ms / 1000) a;

-- name: ordering
-- Each viewer's first order, against their first entry to the shop before it, or else their first visit.
SELECT count(*) AS viewers,
       avg(f.at_ms - CASE WHEN v.first_entry_ms <= f.at_ms THEN v.first_entry_ms ELSE v.first_ms END)
           FILTER (WHERE v.first_ms <= f.at_ms)::float8 AS time_ms
  FROM (SELECT o.viewer, min(o.created_at_ms) AS at_ms FROM sales s JOIN orders o USING (sale_no)
         WHERE s.room_no = $1 GROUP BY o.viewer) f
  LEFT JOIN room_viewers v ON v.room_no = $1 AND v.viewer = f.viewer;

-- name: coupons
-- Those of the room, and those dropped in it.
SELECT k.coupon, k.title, k.kind, k.currency, k.copies, count(c.claim) FILTER (WHERE c.state <> 'refused') AS claimed,
       count(c.claim) FILTER (WHERE c.state = 'redeemed') AS redeemed,
       coalesce(sum(o.discount_minor) FILTER (WHERE c.state = 'redeemed'), 0)::bigint AS discount_minor
  FROM coupons k
  LEFT JOIN claims c ON c.coupon_no = k.coupon_no
  LEFT JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id
 WHERE k.room_no = $1 OR k.dropped_room_no = $1
    OR EXISTS (SELECT FROM coupon_acts a WHERE a.coupon_no = k.coupon_no AND a.room_no = $1)
 GROUP BY k.coupon_no
 ORDER BY k.coupon_no;

-- name: claims
-- Of the same coupons.
SELECT count(*) FILTER (WHERE c.state <> 'refused') AS claimed, count(*) FILTER (WHERE c.state = 'redeemed') AS redeemed
  FROM coupons k JOIN claims c ON c.coupon_no = k.coupon_no
 WHERE k.room_no = $1 OR k.dropped_room_no = $1
    OR EXISTS (SELECT FROM coupon_acts a WHERE a.coupon_no = k.coupon_no AND a.room_no = $1);

-- name: first_orders
-- Decided once the follower of the shard $2 has read all news of confirmed orders of the room's sales.
SELECT coalesce((SELECT sum(c.customers) FROM sales s JOIN sale_customers c USING (sale_no) WHERE s.room_no = $1), 0)::bigint
           AS firsts,
       NOT EXISTS (SELECT FROM order_news n JOIN sales s ON s.sale_no = n.sale_no AND s.room_no = $1
                    WHERE n.shard = $2 AND n.order_ids IS NULL
                      AND n.no > coalesce((SELECT c.no FROM news_cursors c WHERE c.shard = $2), 0)) AS decided;

-- name: pickups
SELECT count(*) AS pickups, count(p.redeemed_at) AS redeemed
  FROM sales s
  JOIN pickups p ON p.sale_no = s.sale_no
  JOIN orders o ON o.sale_no = p.sale_no AND o.order_id = p.order_id AND o.status = 'paid'
 WHERE s.room_no = $1;

-- name: skus
SELECT s.sale, i.sku, i.title, s.currency, i.stock, count(o.order_id) AS orders_placed,
       coalesce(sum(o.quantity), 0)::bigint AS units_placed,
       count(*) FILTER (WHERE o.status = 'paid') AS orders_paid,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'paid'), 0)::bigint AS units_paid,
       count(*) FILTER (WHERE o.status = 'expired') AS orders_expired,
       coalesce(sum(o.amount_minor), 0)::bigint AS gmv_placed_minor,
       coalesce(sum(o.amount_minor) FILTER (WHERE o.status = 'paid'), 0)::bigint AS gmv_paid_minor,
       coalesce(sum(o.discount_minor) FILTER (WHERE o.status = 'paid'), 0)::bigint AS discount_paid_minor
  FROM sales s
  JOIN sale_items i ON i.sale_no = s.sale_no
  LEFT JOIN orders o ON o.sale_no = i.sale_no AND o.item_no = i.item_no
 WHERE s.room_no = $1
 GROUP BY s.sale_no, i.sale_no, i.item_no
 ORDER BY s.sale_no, i.item_no;

-- name: sources
SELECT coalesce(a.source, '') AS source, s.currency, count(*) AS orders_placed,
       count(*) FILTER (WHERE o.status = 'paid') AS orders_paid,
       coalesce(sum(o.amount_minor), 0)::bigint AS gmv_placed_minor,
       coalesce(sum(o.amount_minor) FILTER (WHERE o.status = 'paid'), 0)::bigint AS gmv_paid_minor
  FROM sales s
  JOIN orders o ON o.sale_no = s.sale_no
  LEFT JOIN attributions(ARRAY(SELECT x.sale_no FROM sales x WHERE x.room_no = $1)) a
    ON a.sale_no = o.sale_no AND a.order_id = o.order_id
 WHERE s.room_no = $1
 GROUP BY 1, 2
 ORDER BY orders_placed DESC, source, s.currency;

-- name: timeline_orders
-- $2: from, $3: to, $4: the width of a bucket, all in ms.
SELECT (o.created_at_ms - $2) / $4 AS bucket, count(*) AS n
  FROM sales s JOIN orders o USING (sale_no)
 WHERE s.room_no = $1 AND o.created_at_ms >= $2::bigint AND o.created_at_ms < $3::bigint
 GROUP BY 1;

-- name: timeline_comments
SELECT (at_ms - $2) / $4::bigint AS bucket, count(*) AS n
  FROM comments
 WHERE room_no = $1 AND at_ms >= $2::bigint AND at_ms < $3::bigint
 GROUP BY 1;

-- name: timeline_viewers
SELECT at_ms, viewers, peak FROM room_samples WHERE room_no = $1 AND at_ms >= $2::bigint AND at_ms < $3::bigint ORDER BY at_ms;

-- name: marks
-- What was done to the room, to its sales and to coupons in it, and what happened by the clock; the first $3 up to $2.
SELECT * FROM (
    SELECT a.at_ms, a.act AS kind,
           left(CASE a.act WHEN 'announce' THEN a.after ->> 'text'
                           WHEN 'pin' THEN coalesce(a.after ->> 'sku', a.after ->> 'text') END, 200) AS label
      FROM room_acts a
     WHERE a.room_no = $1 AND a.act IN ('start', 'end', 'announce', 'pin')
    UNION ALL
    -- The steps of a plan stand below, each at its time.
    SELECT a.at_ms, a.act, left(concat_ws(' ', s.title, CASE WHEN a.act IN ('price', 'stock') THEN a.after END), 200)
      FROM sales s JOIN acts a USING (sale_no)
     WHERE s.room_no = $1 AND a.after IS NOT NULL AND a.act NOT IN ('plan', 'window')
    UNION ALL
    SELECT a.at_ms, a.act, k.title
      FROM coupon_acts a JOIN coupons k USING (coupon_no)
     WHERE a.room_no = $1 AND a.after IS NOT NULL
    UNION ALL
    SELECT s.opens_at_ms, 'open', s.title FROM sales s
     WHERE s.room_no = $1
       AND NOT EXISTS (SELECT FROM acts a WHERE a.sale_no = s.sale_no AND a.act = 'open' AND a.after IS NOT NULL
                          AND abs(a.at_ms - s.opens_at_ms) < 1000)
    UNION ALL
    SELECT s.closes_at_ms, 'close', s.title FROM sales s WHERE s.room_no = $1 AND s.hold <> 'closed'
    UNION ALL
    SELECT (step.value ->> 0)::bigint, 'price', left(concat_ws(' ', i.sku, step.value ->> 1), 200)
      FROM sales s JOIN sale_items i USING (sale_no), jsonb_array_elements(i.prices) AS step
     WHERE s.room_no = $1
) AS m
 WHERE m.at_ms <= $2
 ORDER BY m.at_ms, m.kind, m.label
 LIMIT $3;

-- name: feed_orders
-- Orders by (sale, order id) that are of the room's sales.
SELECT o.order_id AS order, s.sale, coalesce(i.sku, '') AS sku, o.quantity, o.amount_minor, s.currency, o.status, o.reason, o.viewer, o.created_at_ms
  FROM unnest($2::int[], $3::text[]) WITH ORDINALITY AS u(sale_no, order_id, at)
  JOIN sales s ON s.sale_no = u.sale_no AND s.room_no = $1
  JOIN orders o ON o.sale_no = u.sale_no AND o.order_id = u.order_id
  LEFT JOIN sale_items i ON i.sale_no = o.sale_no AND i.item_no = o.item_no
 ORDER BY u.at;

-- name: newest_orders
-- The newest $2, the newest last; of each sale the primary key gives so many at most.
SELECT n.order_id AS order, n.sale, coalesce(i.sku, '') AS sku, n.quantity, n.amount_minor, n.currency, n.status, n.reason, n.viewer,
       n.created_at_ms
  FROM (SELECT o.*, s.sale, s.currency
          FROM sales s
         CROSS JOIN LATERAL (SELECT * FROM orders x WHERE x.sale_no = s.sale_no ORDER BY x.order_id DESC LIMIT $2) o
         WHERE s.room_no = $1
         ORDER BY o.order_id DESC
         LIMIT $2) n
  LEFT JOIN sale_items i ON i.sale_no = n.sale_no AND i.item_no = n.item_no
 ORDER BY n.order_id;
