-- The queries of payments.py.

-- name: of_order
-- What one shop knows of an order's money: whoever names an order of another shop is told of in his own.
SELECT p.provider, p.txn, p.amount_minor, (extract(epoch FROM p.paid_at) * 1000)::bigint AS paid_at_ms, p.state, p.reason
  FROM payments p JOIN shops h USING (shop_no)
 WHERE h.shop = $1 AND p.order_id = $2
 ORDER BY p.payment_no
 LIMIT 100;

-- name: owed
-- Refunds a shop owes, behind a payment number; only of the named rooms where names are given. The notice of a payment whose
-- reason is the amount may have named another currency, which is not kept.
SELECT p.payment_no, p.order_id, CASE WHEN p.reason IS DISTINCT FROM 'amount' THEN s.currency END AS currency,
       p.provider, p.txn, p.amount_minor, (extract(epoch FROM p.paid_at) * 1000)::bigint AS paid_at_ms, p.state, p.reason
  FROM payments p LEFT JOIN sales s USING (sale_no) LEFT JOIN rooms r USING (room_no)
 WHERE p.shop_no = (SELECT h.shop_no FROM shops h WHERE h.shop = $1) AND p.state = 'refund_due'
   AND p.payment_no > $2::bigint AND ($3::text[] IS NULL OR r.room = ANY($3))
 ORDER BY p.payment_no
 LIMIT $4;

-- name: begin
INSERT INTO checkouts (sale_no, order_id, shop_no, provider, checkout) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (sale_no, order_id) DO NOTHING;

-- name: running
SELECT provider, checkout FROM checkouts WHERE sale_no = $1 AND order_id = $2;

-- name: checkout
SELECT h.shop, c.order_id, s.title AS sale_title, i.title AS item_title, o.quantity, o.amount_minor, s.currency, o.status,
       (SELECT p.state FROM payments p
         WHERE p.shop_no = c.shop_no AND p.provider = c.provider AND p.order_id = c.order_id
         ORDER BY p.payment_no LIMIT 1) AS payment
  FROM checkouts c
  JOIN shops h USING (shop_no)
  JOIN sales s ON s.sale_no = c.sale_no
  JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id
  JOIN sale_items i ON i.sale_no = o.sale_no AND i.item_no = o.item_no
 WHERE c.checkout = $1 AND c.provider = $2;

-- name: unpaid
-- Checkouts of a provider that was told of no payment yet.
SELECT c.checkout FROM checkouts c JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id
 WHERE c.provider = $1 AND o.status = 'confirmed'
   AND NOT EXISTS (SELECT FROM payments p WHERE p.shop_no = c.shop_no AND p.provider = c.provider AND p.order_id = c.order_id)
 ORDER BY c.created_at
 LIMIT $2;

-- name: refund_due
SELECT h.shop, p.order_id, p.txn, p.amount_minor, coalesce(s.currency, 'XXX') AS currency
  FROM payments p JOIN shops h USING (shop_no) LEFT JOIN sales s ON s.sale_no = p.sale_no
 WHERE p.state = 'refund_due' AND p.provider = $1
 ORDER BY p.shop_no, p.payment_no
 LIMIT $2;
