-- The queries of pickups.py.

-- name: find
-- Where the code's order is: of which sale and room.
SELECT p.sale_no, p.order_id, r.room
  FROM pickups p
  JOIN shops h USING (shop_no)
  JOIN sales s ON s.sale_no = p.sale_no
  LEFT JOIN rooms r ON r.room_no = s.room_no
 WHERE h.shop = $1 AND p.code = $2;

-- name: lock
-- The order's row is held as well, so that no refund comes between what is read here and what is done.
SELECT p.shop_no, p.order_id, (extract(epoch FROM p.redeemed_at) * 1000)::bigint AS redeemed_at_ms, o.status, s.sale,
       s.room_no
  FROM pickups p
  JOIN shops h USING (shop_no)
  JOIN orders o ON o.sale_no = p.sale_no AND o.order_id = p.order_id
  JOIN sales s ON s.sale_no = p.sale_no
 WHERE h.shop = $1 AND p.code = $2
   FOR UPDATE OF p FOR SHARE OF o;

-- name: shop
SELECT shop_no FROM shops WHERE shop = $1;

-- name: redeem
UPDATE pickups SET redeemed_at = clock_timestamp(), redeemed_by = $3 WHERE shop_no = $1 AND code = $2;

-- name: by_order
-- Of orders by (sale, order id), many at once; those that have none are left out.
SELECT p.order_id, p.code, (extract(epoch FROM p.redeemed_at) * 1000)::bigint AS redeemed_at_ms, p.redeemed_by
  FROM unnest($1::int[], $2::text[]) AS u(sale_no, order_id)
  JOIN pickups p ON p.sale_no = u.sale_no AND p.order_id = u.order_id;
