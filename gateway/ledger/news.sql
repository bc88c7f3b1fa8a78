-- The queries of news.py.

-- name: behind
-- Shards that have news behind their cursor.
SELECT d.shard FROM shards d LEFT JOIN news_cursors c USING (shard)
 WHERE EXISTS (SELECT FROM order_news n WHERE n.shard = d.shard AND n.no > coalesce(c.no, 0))
 ORDER BY d.shard;

-- name: next
-- The next news of a shard, about $2 orders of them (those of one row stay together).
SELECT coalesce((SELECT no FROM news_cursors WHERE shard = $1), 0) AS after, n.no, s.shop_no, n.sale_no, n.status,
       (extract(epoch FROM n.at) * 1000)::bigint AS at_ms, w.shop_no IS NOT NULL AS wanted
  FROM (SELECT x.*, sum(x.orders) OVER (ORDER BY x.no) - x.orders AS before
          FROM (SELECT * FROM order_news
                 WHERE shard = $1 AND no > coalesce((SELECT no FROM news_cursors WHERE shard = $1), 0)
                 ORDER BY no LIMIT 500) x) n
  JOIN sales s USING (sale_no)
  LEFT JOIN webhooks w ON w.shop_no = s.shop_no AND 'order.' || n.status = ANY(w.events)
 WHERE n.before < $2
 ORDER BY n.no;

-- name: decide
SELECT decide_first_orders($1, $2, $3);

-- name: orders
-- The orders of some rows of news, as (no, sale_no, order_id), in the order in which they were placed.
SELECT n.no, n.sale_no, o.order_id, o.seq
  FROM order_news n
 CROSS JOIN LATERAL (
       SELECT x.order_id, x.seq FROM orders x
        WHERE x.sale_no = n.sale_no AND x.order_id >= n.first_id AND x.order_id <= n.last_id
          AND x.status <> 'refused' AND x.epoch = n.epoch AND x.seq >= n.first_seq AND x.seq <= n.last_seq
       OFFSET 0) o
 WHERE n.shard = $1 AND n.no = ANY($2::bigint[]) AND n.order_ids IS NULL
UNION ALL
SELECT n.no, n.sale_no, u.order_id, 0
  FROM order_news n CROSS JOIN LATERAL unnest(n.order_ids) AS u(order_id)
 WHERE n.shard = $1 AND n.no = ANY($2::bigint[]) AND n.order_ids IS NOT NULL
 ORDER BY 1, 4, 3;

-- name: first_move
INSERT INTO news_cursors (shard) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: move
-- Nothing when another follower was here meanwhile.
UPDATE news_cursors SET no = $3 WHERE shard = $1 AND no = $2 RETURNING true;

-- name: queue
SELECT queue_events($1, $2, $3, $4, $5);

-- name: forget
-- News behind the cursor, older than so many seconds; from the lowest number on, a bounded part.
DELETE FROM order_news n USING (
       SELECT x.shard, x.no, x.at FROM order_news x JOIN news_cursors c USING (shard)
        WHERE x.shard = $1 AND x.no <= c.no ORDER BY x.no LIMIT $3) old
 WHERE n.shard = old.shard AND n.no = old.no AND old.at < clock_timestamp() - make_interval(secs => $2)
RETURNING true;

-- name: tell_sales
SELECT tell_sales($1);

-- name: objects
SELECT n.no, n.shop_no, n.type, n.object_no, (extract(epoch FROM n.at) * 1000)::bigint AS at_ms,
       w.shop_no IS NOT NULL AS wanted
  FROM object_news n LEFT JOIN webhooks w ON w.shop_no = n.shop_no AND n.type = ANY(w.events)
 ORDER BY n.no LIMIT $1;

-- name: take_object
-- Whoever deletes it queues it, in one transaction.
DELETE FROM object_news WHERE no = $1 RETURNING true;
