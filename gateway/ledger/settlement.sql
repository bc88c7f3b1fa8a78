-- The queries of settlement.py.

-- name: settle
SELECT word, coalesce(shop, ''), coalesce(viewer, ''), order_id, status, changed
  FROM settle($1::int2, $2::jsonb) ORDER BY place;

-- name: is_due
SELECT clock_timestamp() <= $2
   AND EXISTS (SELECT FROM deadlines WHERE shard = $1::int2 AND pay_by <= clock_timestamp());

-- name: expire
SELECT shop, viewer, order_id, sale_no FROM expire_orders($1::int2, $2, $3);

-- name: waiting
SELECT p.payment_no, h.shop, o.sale_no, o.item_no, o.viewer, o.order_id, o.quantity, s.retired_at IS NOT NULL
  FROM payments p
  JOIN shops h USING (shop_no)
  JOIN sales s ON s.sale_no = p.sale_no
  JOIN orders o ON o.sale_no = p.sale_no AND o.order_id = p.order_id
 WHERE p.state = 'waiting' AND h.shard = $1::int2
 ORDER BY p.payment_no
 LIMIT $2;

-- name: settle_late
SELECT settle_late($1::int2, $2, $3);
