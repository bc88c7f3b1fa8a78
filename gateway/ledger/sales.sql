-- The queries of sales.py.

-- name: place
-- The shop, and the number and time of a sale to be.
SELECT shop_no, nextval(pg_get_serial_sequence('sales', 'sale_no'))::int AS sale_no,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
  FROM shops WHERE shop = $1;

-- name: room
SELECT room_no FROM rooms WHERE room = $1 AND shop_no = $2;

-- name: insert
INSERT INTO sales (sale_no, sale, shop_no, room_no, title, currency, opens_at_ms, closes_at_ms, pay_within_s,
                   stock_display, created_at_ms)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: insert_items
-- Numbered by their place, from 1.
INSERT INTO sale_items (sale_no, item_no, sku, title, price_minor, list_price_minor, floor_minor, stock,
                        limit_per_viewer, image_url, prices)
SELECT $1, u.at, u.sku, u.title, u.price, u.list_price, u.floor, u.stock, u.limit_per_viewer, u.image_url, u.prices
  FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::int[], $8::int[], $9::text[],
              $10::jsonb[])
       WITH ORDINALITY AS u(sku, title, price, list_price, floor, stock, limit_per_viewer, image_url, prices, at);

-- name: by_number
-- Sales with their items in one statement, so that both are of one moment.
SELECT s.sale_no, s.sale, h.shop, h.shard, r.room, s.title, s.currency, s.hold, s.opens_at_ms, s.closes_at_ms,
       s.pay_within_s, s.stock_display, s.created_at_ms, s.loaded_epoch, s.retired_at IS NOT NULL AS retired, i.items
  FROM sales s
  JOIN shops h USING (shop_no)
  LEFT JOIN rooms r ON r.room_no = s.room_no
  CROSS JOIN LATERAL (
      SELECT json_agg(json_build_object(
                 'item_no', i.item_no, 'sku', i.sku, 'title', i.title, 'price_minor', i.price_minor, 'stock', i.stock,
                 'limit_per_viewer', i.limit_per_viewer, 'list_price_minor', i.list_price_minor,
                 'floor_minor', i.floor_minor, 'image_url', i.image_url,
                 'prices', coalesce(i.prices, '[]')) ORDER BY i.item_no)::text AS items
        FROM sale_items i WHERE i.sale_no = s.sale_no) i
 WHERE s.sale_no = ANY($1::int[]);

-- name: lock
SELECT sale, room_no, title, stock_display FROM sales WHERE sale_no = $1 FOR NO KEY UPDATE;

-- name: change
UPDATE sales SET title = $2, stock_display = $3, changed_at = clock_timestamp() WHERE sale_no = $1;

-- name: of_shop
-- Numbers of a shop's sales, newest first, behind a given number; only in the named rooms where names are given.
SELECT s.sale_no FROM sales s JOIN shops h USING (shop_no) LEFT JOIN rooms r ON r.room_no = s.room_no
 WHERE h.shop = $1 AND ($2::int IS NULL OR s.sale_no < $2) AND ($3::text[] IS NULL OR r.room = ANY($3))
 ORDER BY s.sale_no DESC
 LIMIT $4;

-- name: of_room_behind
-- Numbers of a room's sales in a shop, newest first, behind a given number.
SELECT s.sale_no FROM sales s JOIN shops h USING (shop_no)
 WHERE s.room_no = $1 AND h.shop = $2 AND ($3::int IS NULL OR s.sale_no < $3)
 ORDER BY s.sale_no DESC
 LIMIT $4;

-- name: of_room
-- Numbers of a room's sales, newest first.
SELECT sale_no FROM sales WHERE room_no = $1 ORDER BY sale_no DESC LIMIT $2;

-- name: unloaded
-- Numbers of sales that Valkey was given neither in an epoch nor before it, and that may still sell.
SELECT s.sale_no FROM sales s JOIN shops h USING (shop_no)
 WHERE (s.loaded_epoch IS NULL OR s.loaded_epoch > $2) AND s.hold <> 'closed' AND h.shard = $1 AND s.retired_at IS NULL
   AND s.closes_at_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint
 ORDER BY s.sale_no
 LIMIT $3;

-- name: opens_within
-- Whether any sale opens within so many seconds, or has just done so.
SELECT EXISTS (SELECT FROM sales
                WHERE hold <> 'closed' AND dropped_at IS NULL
                  AND opens_at_ms BETWEEN (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 10000
                                      AND (extract(epoch FROM clock_timestamp()) * 1000)::bigint + ($1::float8 * 1000)::bigint);

-- name: is_loaded
SELECT loaded_epoch IS NOT NULL FROM sales WHERE sale_no = $1;

-- name: mark_loaded
UPDATE sales SET loaded_epoch = $2 WHERE sale_no = $1 AND loaded_epoch IS DISTINCT FROM $2;

-- name: counts
SELECT item_no, stock, held, sold FROM sale_items WHERE sale_no = $1;

-- name: acts
SELECT epoch, seq, act, actor, at_ms, before, after FROM acts WHERE sale_no = $1 ORDER BY epoch, seq;

-- name: was_refused
SELECT EXISTS (SELECT FROM acts WHERE shard = $1::int2 AND epoch = $2 AND seq = $3 AND sale_no = $4 AND act = $5
                  AND after IS NULL);
