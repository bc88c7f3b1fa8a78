-- The queries of orders.py. Each answers the columns of `domain.order.Order`, in its order of fields.

-- name: by_place
-- Orders by their primary key, many at once: what a process asks about the orders it placed.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra,
       o.claim
  FROM unnest($1::int[], $2::text[]) AS u(sale_no, order_id)
  JOIN orders o ON o.sale_no = u.sale_no AND o.order_id = u.order_id;

-- name: by_keys
-- Orders by (viewer, sale, key), many at once.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra,
       o.claim
  FROM unnest($1::text[], $2::int[], $3::text[]) AS u(viewer, sale_no, key)
  JOIN orders o ON o.viewer = u.viewer AND o.sale_no = u.sale_no AND o.key = u.key;

-- name: lost
-- Of orders by (sale, order id, epoch, sequence number): those the ledger does not have, though its cursor is past them.
SELECT u.order_id
  FROM unnest($1::int[], $2::text[], $3::int[], $4::bigint[]) AS u(sale_no, order_id, epoch, seq)
  JOIN sales s ON s.sale_no = u.sale_no
  JOIN shops h ON h.shop_no = s.shop_no
  JOIN shards d ON d.shard = h.shard AND (u.epoch, u.seq) <= (d.epoch, d.last_seq)
 WHERE NOT EXISTS (SELECT FROM orders o WHERE o.sale_no = u.sale_no AND o.order_id = u.order_id);

-- name: held_keys
-- What keys hold, by (viewer, sale, key), many at once; an order that was refused holds none.
SELECT o.viewer, o.sale_no, o.key, o.order_id, o.fingerprint, o.price_minor, o.created_at_ms, o.discount_minor
  FROM unnest($1::text[], $2::int[], $3::text[]) AS u(viewer, sale_no, key)
  JOIN orders o ON o.viewer = u.viewer AND o.sale_no = u.sale_no AND o.key = u.key;

-- name: own
-- A viewer's orders in a shop, newest first, behind a given order id.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra,
       o.claim
  FROM orders o
  JOIN sales s ON s.sale_no = o.sale_no
  JOIN shops h ON h.shop_no = s.shop_no
 WHERE o.viewer = $1 AND h.shop = $2 AND ($3::text IS NULL OR o.order_id < $3)
 ORDER BY o.order_id DESC
 LIMIT $4;

-- name: of_sale
-- The orders of a sale in the order they were decided, behind a given order id, of one status or of all.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra,
       o.claim
  FROM orders o
 WHERE o.sale_no = $1 AND ($2::text IS NULL OR o.order_id > $2) AND ($3::text IS NULL OR o.status = $3)
 ORDER BY o.order_id
 LIMIT $4;

-- name: of_shop
-- The orders of a shop in the order they were decided, behind a given order id; only of the named rooms where names are
-- given. Each sale gives a page at most, through its primary key.
SELECT o.order_id, o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price_minor, o.discount_minor, o.amount_minor,
       o.status, o.reason, o.created_at_ms, (extract(epoch FROM o.pay_by) * 1000)::bigint AS pay_by_ms, o.extra,
       o.claim
  FROM shops h
  JOIN sales s ON s.shop_no = h.shop_no
  LEFT JOIN rooms r ON r.room_no = s.room_no
 CROSS JOIN LATERAL (
       SELECT * FROM orders x
        WHERE x.sale_no = s.sale_no AND ($2::text IS NULL OR x.order_id > $2)
        ORDER BY x.order_id LIMIT $4) o
 WHERE h.shop = $1 AND ($3::text[] IS NULL OR r.room = ANY($3))
 ORDER BY o.order_id
 LIMIT $4;
