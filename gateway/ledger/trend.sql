-- The queries of trend.py; all of a reading are run in one snapshot. Spans are given by their edges in ms: the one before
-- goes from the first to the second, the last one from there to the third.

-- name: standing
SELECT room, started_at_ms, ended_at_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
  FROM rooms WHERE room_no = $1;

-- name: sales
SELECT sale_no, currency, pay_within_s FROM sales WHERE room_no = $1 ORDER BY sale_no;

-- name: currency
-- The currency with most orders, then that of the oldest sale.
SELECT s.currency
  FROM sales s LEFT JOIN orders o USING (sale_no)
 WHERE s.room_no = $1
 GROUP BY s.currency
 ORDER BY count(o.order_id) DESC, min(s.sale_no)
 LIMIT 1;

-- name: samples
-- Those of both spans, and the one before them, which says what was so when they began.
SELECT at_ms, viewers, peak, likes FROM room_samples
 WHERE room_no = $1 AND at_ms < $3::bigint
   AND at_ms >= coalesce((SELECT max(b.at_ms) FROM room_samples b WHERE b.room_no = $1 AND b.at_ms < $2::bigint), $2)
 ORDER BY at_ms;

-- name: comments
SELECT count(*) FILTER (WHERE at_ms < $3) AS before, count(*) FILTER (WHERE at_ms >= $3::bigint) AS last
  FROM comments WHERE room_no = $1 AND at_ms >= $2::bigint AND at_ms < $4::bigint;

-- name: visits
SELECT coalesce(sum(visits) FILTER (WHERE at_ms < $3), 0)::bigint AS visits_before,
       coalesce(sum(visits) FILTER (WHERE at_ms >= $3::bigint), 0)::bigint AS visits_last,
       coalesce(sum(shop_entries) FILTER (WHERE at_ms < $3), 0)::bigint AS entries_before,
       coalesce(sum(shop_entries) FILTER (WHERE at_ms >= $3), 0)::bigint AS entries_last
  FROM room_visits WHERE room_no = $1 AND at_ms >= $2::bigint AND at_ms < $4::bigint;

-- name: orders
-- Of each sale $1 the orders decided between three edges, given in ms and as the ids that begin there: an id begins with
-- its time, so the primary key finds them.
SELECT u.sale_no, o.*
  FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[]) AS u(sale_no, edge_ms, from_id, to_id)
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE x.created_at_ms < u.edge_ms) AS before,
              count(*) FILTER (WHERE x.created_at_ms >= u.edge_ms) AS last,
              coalesce(sum(x.amount_minor) FILTER (WHERE x.created_at_ms < u.edge_ms), 0)::bigint AS before_minor,
              coalesce(sum(x.amount_minor) FILTER (WHERE x.created_at_ms >= u.edge_ms), 0)::bigint AS last_minor,
              count(*) FILTER (WHERE x.created_at_ms < u.edge_ms AND x.status = 'paid') AS paid_before,
              count(*) FILTER (WHERE x.created_at_ms >= u.edge_ms AND x.status = 'paid') AS paid_last
         FROM orders x
        WHERE x.sale_no = u.sale_no AND x.order_id >= u.from_id AND x.order_id < u.to_id) o;

-- name: payments
-- Of each sale $1 the paid orders of which the money came between three edges. Each order is looked up by itself (OFFSET 0):
-- few of a sale's orders are asked for, which the planner cannot know.
SELECT u.sale_no, p.*
  FROM unnest($1::int[]) AS u(sale_no)
 CROSS JOIN LATERAL (
       SELECT count(x.minor) FILTER (WHERE x.received_at < $3) AS before,
              count(x.minor) FILTER (WHERE x.received_at >= $3::timestamptz) AS last,
              coalesce(sum(x.minor) FILTER (WHERE x.received_at < $3), 0)::bigint AS before_minor,
              coalesce(sum(x.minor) FILTER (WHERE x.received_at >= $3), 0)::bigint AS last_minor
         FROM (SELECT y.received_at,
                      (SELECT o.amount_minor FROM orders o
                        WHERE o.sale_no = y.sale_no AND o.order_id = y.order_id AND o.status = 'paid') AS minor
                 FROM payments y
                WHERE y.sale_no = u.sale_no AND y.state = 'applied'
                  AND y.received_at >= $2::timestamptz AND y.received_at < $4::timestamptz
               OFFSET 0) x) p;
