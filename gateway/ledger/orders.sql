-- The queries of orders.py. Each answers the columns of `domain.order.Order`, in its order of fields.

-- name: by_place
-- Orders by their primary key, many at once: what a process asks about the orders it placed.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra
  FROM unnest($1::int[], $2::text[]) AS u(sale_no, order_id)
  JOIN orders o ON o.sale_no = u.sale_no AND o.order_id = u.order_id;

-- name: by_keys
-- Orders by (viewer, sale, key), many at once.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra
  FROM unnest($1::text[], $2::int[], $3::text[]) AS u(viewer, sale_no, key)
  JOIN orders o ON o.viewer = u.viewer AND o.sale_no = u.sale_no AND o.key = u.key;

-- name: own
-- A viewer's orders in a shop, newest first, behind a given order id.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra
  FROM orders o
  JOIN sales s ON s.sale_no = o.sale_no
  JOIN shops h ON h.shop_no = s.shop_no
 WHERE o.viewer = $1 AND h.shop = $2 AND ($3::text IS NULL OR o.order_id < $3)
 ORDER BY o.order_id DESC
 LIMIT $4;

-- name: of_sale
-- The orders of a sale in the order they were decided, behind a given order id, of one status or of all.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra
  FROM orders o
 WHERE o.sale_no = $1 AND ($2::text IS NULL OR o.order_id > $2) AND ($3::text IS NULL OR o.status = $3)
 ORDER BY o.order_id
 LIMIT $4;
