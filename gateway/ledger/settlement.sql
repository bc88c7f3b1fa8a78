-- The queries of settlement.py.

-- name: settle
SELECT word, coalesce(shop, ''), coalesce(viewer, ''), order_id, status, changed, claim, claim_state
  FROM settle($1::int2, $2::jsonb) ORDER BY place;

-- name: is_due
SELECT clock_timestamp() <= $2
   AND EXISTS (SELECT FROM deadlines WHERE shard = $1::int2 AND pay_by <= clock_timestamp());

-- name: expire
SELECT shop, viewer, order_id, sale_no, claim, claim_state FROM expire_orders($1::int2, $2, $3);

-- name: waiting
SELECT p.payment_no, h.shop, o.sale_no, o.item_no, o.viewer, o.order_id, o.quantity, s.retired_at IS NOT NULL,
       o.claim, o.epoch, o.seq, c.coupon_no, c.epoch AS claim_epoch, c.seq AS claim_seq, c.at_ms AS claimed_at_ms
  FROM payments p
  JOIN shops h USING (shop_no)
  JOIN sales s ON s.sale_no = p.sale_no
  JOIN orders o ON o.sale_no = p.sale_no AND o.order_id = p.order_id
  LEFT JOIN coupons k ON k.coupon_no = o.coupon_no AND k.retired_at IS NULL
  LEFT JOIN claims c ON c.coupon_no = k.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq
 WHERE p.state = 'waiting' AND h.shard = $1::int2
 ORDER BY p.payment_no
 LIMIT $2;

-- name: settle_late
SELECT settle_late($1::int2, $2, $3);
