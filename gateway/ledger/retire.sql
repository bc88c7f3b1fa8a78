-- The queries of retire.py.

-- name: settle
-- Notes since when nothing of an ended sale can change any more: no order waits for money, no money for an answer, and
-- Valkey was told of everything. Where that is not so any more, it counts anew.
UPDATE sales s SET settled_at = CASE WHEN now_is.settled THEN clock_timestamp() END
  FROM (SELECT x.sale_no,
               NOT EXISTS (SELECT FROM sale_items i WHERE i.sale_no = x.sale_no AND i.held > 0)
               AND NOT EXISTS (SELECT FROM payments p WHERE p.sale_no = x.sale_no AND p.state = 'waiting')
               AND NOT EXISTS (SELECT FROM outbox b WHERE b.shard = $1 AND b.sale_no = x.sale_no) AS settled
          FROM sales x JOIN shops h USING (shop_no)
         WHERE h.shard = $1 AND x.retired_at IS NULL AND x.dropped_at IS NULL
           AND (x.hold = 'closed' OR x.closes_at_ms <= (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
           AND (x.loaded_epoch IS NOT NULL OR EXISTS (SELECT FROM orders o WHERE o.sale_no = x.sale_no))) now_is
 WHERE s.sale_no = now_is.sale_no AND now_is.settled <> (s.settled_at IS NOT NULL);

-- name: settled
-- Sales that have been settled for so many seconds, with what is sold of each item.
SELECT s.sale_no, i.item_nos, i.sold
  FROM sales s JOIN shops h USING (shop_no)
 CROSS JOIN LATERAL (SELECT array_agg(item_no ORDER BY item_no) AS item_nos, array_agg(sold ORDER BY item_no) AS sold
                       FROM sale_items WHERE sale_no = s.sale_no) i
 WHERE h.shard = $1 AND s.retired_at IS NULL AND s.dropped_at IS NULL
   AND s.settled_at <= clock_timestamp() - make_interval(secs => $2)
 ORDER BY s.settled_at LIMIT $3;

-- name: retired
-- Sales that were retired so many seconds ago and are still in Valkey.
SELECT s.sale_no, i.item_nos, i.sold
  FROM sales s JOIN shops h USING (shop_no)
 CROSS JOIN LATERAL (SELECT array_agg(item_no ORDER BY item_no) AS item_nos, array_agg(sold ORDER BY item_no) AS sold
                       FROM sale_items WHERE sale_no = s.sale_no) i
 WHERE h.shard = $1 AND s.dropped_at IS NULL AND s.retired_at <= clock_timestamp() - make_interval(secs => $2)
 ORDER BY s.retired_at LIMIT $3;

-- name: mark_retired
UPDATE sales SET retired_at = clock_timestamp(), changed_at = clock_timestamp() WHERE sale_no = $1 AND retired_at IS NULL;

-- name: mark_dropped
UPDATE sales SET dropped_at = clock_timestamp() WHERE sale_no = $1 AND dropped_at IS NULL;

-- name: ended_coupons
-- Coupons that were valid until so many seconds ago, and of which nothing can change any more but by refunds and late money:
-- no order that redeems one waits for money, no money of one for an answer, and Valkey was told of everything.
SELECT k.coupon_no
  FROM coupons k JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND k.retired_at IS NULL AND k.forgotten_at IS NULL
   AND k.valid_until_ms <= (extract(epoch FROM clock_timestamp()) * 1000)::bigint - ($2::float8 * 1000)::bigint
   AND NOT EXISTS (SELECT FROM outbox b WHERE b.shard = $1 AND b.coupon_no = k.coupon_no)
   AND NOT EXISTS (SELECT FROM payments p JOIN orders o ON o.sale_no = p.sale_no AND o.order_id = p.order_id
                    WHERE p.state = 'waiting' AND o.coupon_no = k.coupon_no)
   AND NOT EXISTS (SELECT FROM claims c JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id
                    WHERE c.coupon_no = k.coupon_no AND c.state = 'redeemed' AND o.status = 'confirmed')
 ORDER BY k.valid_until_ms LIMIT $3;

-- name: retired_coupons
-- Coupons that were retired so many seconds ago and are still in Valkey.
SELECT k.coupon_no FROM coupons k JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND k.forgotten_at IS NULL AND k.retired_at <= clock_timestamp() - make_interval(secs => $2)
 ORDER BY k.retired_at LIMIT $3;

-- name: mark_coupon_retired
UPDATE coupons SET retired_at = clock_timestamp(), changed_at = clock_timestamp()
 WHERE coupon_no = $1 AND retired_at IS NULL;

-- name: mark_coupon_forgotten
UPDATE coupons SET forgotten_at = clock_timestamp() WHERE coupon_no = $1 AND forgotten_at IS NULL;
