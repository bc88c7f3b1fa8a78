-- The queries of audit.py, all of them run in one read-only snapshot. Lists of what is wrong are short and carry how many
-- there are in all as `total`. Live orders are those whose units are taken: confirmed or paid.

-- name: sales
-- The sales to be audited, one or all, each with the shard of its shop.
SELECT s.sale_no, coalesce(s.sale, s.sale_no::text) AS sale, h.shard, s.hold = 'closed' AS closed, s.closes_at_ms,
       s.loaded_epoch
  FROM sales s JOIN shops h USING (shop_no)
 WHERE $1::text IS NULL OR s.sale = $1
 ORDER BY h.shard, s.sale_no;

-- name: shards
-- Where each shard's cursor stands. The first query of a snapshot: Valkey is read after it.
SELECT shard, epoch, last_seq, outbox_no FROM shards ORDER BY shard;

-- name: pending
-- What the ledger ended and Valkey may not have been told yet.
SELECT shard, no, sale_no, item_no, viewer || '|' || coalesce(key, '') AS answer_field,
       viewer || '|' || item_no AS units_field, epoch, seq, quantity
  FROM outbox WHERE shard = ANY($1::int2[]) ORDER BY shard, no;

-- name: items
SELECT sale_no, item_no, sku, stock, limit_per_viewer, held, sold FROM sale_items
 WHERE sale_no = ANY($1::int[]) ORDER BY sale_no, item_no;

-- name: sums
SELECT sale_no, item_no, status, count(*) AS orders, sum(quantity)::bigint AS units, sum(amount_minor)::bigint AS amount_minor
  FROM orders WHERE sale_no = ANY($1::int[]) GROUP BY sale_no, item_no, status ORDER BY sale_no, item_no, status;

-- name: holdings_off
-- Holdings that are not the sum of the viewer's live orders of the item.
WITH live AS (
    SELECT viewer, sale_no, item_no, sum(quantity) AS units FROM orders
     WHERE sale_no = ANY($1::int[]) AND status IN ('confirmed', 'paid') GROUP BY viewer, sale_no, item_no
), held AS (
    SELECT viewer, sale_no, item_no, units FROM holdings WHERE sale_no = ANY($1::int[])
)
SELECT format('sale %s item %s viewer %s: holds %s, live orders have %s', sale_no, item_no, viewer,
              coalesce(held.units, 0), coalesce(live.units, 0)) AS text,
       count(*) OVER () AS total
  FROM live FULL JOIN held USING (viewer, sale_no, item_no)
 WHERE coalesce(held.units, 0) <> coalesce(live.units, 0)
 ORDER BY sale_no, item_no, viewer
 LIMIT $2;

-- name: limits_off
-- Holdings past the item's limit a viewer.
SELECT format('sale %s item %s viewer %s: holds %s, the limit is %s', h.sale_no, h.item_no, h.viewer, h.units,
              i.limit_per_viewer) AS text,
       count(*) OVER () AS total
  FROM holdings h JOIN sale_items i ON i.sale_no = h.sale_no AND i.item_no = h.item_no
 WHERE h.sale_no = ANY($1::int[]) AND h.units > i.limit_per_viewer
 ORDER BY h.sale_no, h.item_no, h.viewer
 LIMIT $2;

-- name: keys_off
-- Keys that more than one order holds.
SELECT format('sale %s viewer %s key %s: %s orders', sale_no, viewer, key, count(*)) AS text, count(*) OVER () AS total
  FROM orders WHERE sale_no = ANY($1::int[]) AND key IS NOT NULL
 GROUP BY viewer, sale_no, key HAVING count(*) > 1
 ORDER BY sale_no, viewer, key
 LIMIT $2;

-- name: amounts_off
SELECT format('%s: amount %s, price %s, quantity %s, discount %s', order_id, amount_minor, price_minor, quantity,
              discount_minor) AS text,
       count(*) OVER () AS total
  FROM orders WHERE sale_no = ANY($1::int[]) AND amount_minor <> price_minor * quantity - discount_minor
 ORDER BY order_id
 LIMIT $2;

-- name: prices_off
-- Orders at another price than their item's, in sales whose prices no act ever changed.
SELECT format('%s: price %s, item %s costs %s', o.order_id, o.price_minor, o.item_no, i.price_minor) AS text,
       count(*) OVER () AS total
  FROM orders o JOIN sale_items i ON i.sale_no = o.sale_no AND i.item_no = o.item_no
 WHERE o.sale_no = ANY($1::int[]) AND o.status <> 'refused' AND o.price_minor <> i.price_minor
   AND NOT EXISTS (SELECT FROM acts a WHERE a.sale_no = o.sale_no AND a.act = 'price')
 ORDER BY o.order_id
 LIMIT $2;

-- name: numbers
-- The sequence numbers of each shard's epoch: how many stand in orders, acts and parked entries, and how many times.
WITH numbers AS (
    SELECT d.shard, o.seq FROM orders o JOIN sales s USING (sale_no) JOIN shops h USING (shop_no)
      JOIN shards d ON d.shard = h.shard AND d.epoch = o.epoch
     WHERE d.shard = ANY($1::int2[]) AND o.reason IS DISTINCT FROM 'data'  -- those are counted as parked
    UNION ALL
    SELECT d.shard, a.seq FROM acts a JOIN shards d ON d.shard = a.shard AND d.epoch = a.epoch
     WHERE d.shard = ANY($1::int2[])
    UNION ALL
    SELECT d.shard, n FROM parked p JOIN shards d ON d.shard = p.shard AND d.epoch = p.epoch,
           generate_series(p.first_seq, p.last_seq) n
     WHERE d.shard = ANY($1::int2[])
)
SELECT shard, count(*) AS numbers, sum(times)::bigint AS times, min(seq) AS lowest, max(seq) AS highest
  FROM (SELECT shard, seq, count(*) AS times FROM numbers GROUP BY shard, seq) AS each
 GROUP BY shard;

-- name: numbers_off
-- Which sequence numbers are missing up to the cursor, stand there twice, or stand behind it; asked when `numbers` is off.
WITH numbers AS (
    SELECT d.shard, o.seq FROM orders o JOIN sales s USING (sale_no) JOIN shops h USING (shop_no)
      JOIN shards d ON d.shard = h.shard AND d.epoch = o.epoch
     WHERE d.shard = ANY($1::int2[]) AND o.reason IS DISTINCT FROM 'data'  -- those are counted as parked
    UNION ALL
    SELECT d.shard, a.seq FROM acts a JOIN shards d ON d.shard = a.shard AND d.epoch = a.epoch
     WHERE d.shard = ANY($1::int2[])
    UNION ALL
    SELECT d.shard, n FROM parked p JOIN shards d ON d.shard = p.shard AND d.epoch = p.epoch,
           generate_series(p.first_seq, p.last_seq) n
     WHERE d.shard = ANY($1::int2[])
), marks AS (
    SELECT n.shard, n.seq FROM numbers n JOIN shards d USING (shard) WHERE n.seq <= d.last_seq
    UNION SELECT shard, 0 FROM shards WHERE shard = ANY($1::int2[])
    UNION SELECT shard, last_seq + 1 FROM shards WHERE shard = ANY($1::int2[])
), found AS (
    SELECT shard, seq + 1 AS at, format('shard %s: sequence numbers %s to %s are missing', shard, seq + 1, next - 1) AS text
      FROM (SELECT shard, seq, lead(seq) OVER (PARTITION BY shard ORDER BY seq) AS next FROM marks) AS each
     WHERE next > seq + 1
    UNION ALL
    SELECT shard, seq, format('shard %s: sequence number %s stands %s times', shard, seq, count(*))
      FROM numbers GROUP BY shard, seq HAVING count(*) > 1
    UNION ALL
    SELECT n.shard, n.seq, format('shard %s: sequence number %s is behind the cursor %s', n.shard, n.seq, d.last_seq)
      FROM numbers n JOIN shards d USING (shard) WHERE n.seq > d.last_seq
)
SELECT text, count(*) OVER () AS total FROM found ORDER BY shard, at LIMIT $2;

-- name: parked
SELECT shard, epoch, first_seq, last_seq, reason, count(*) OVER () AS total
  FROM parked WHERE shard = ANY($1::int2[]) ORDER BY parked_at DESC LIMIT $2;

-- name: answers
-- What Valkey answers by key, as `place_orders.lua` spells it, of every order of a sale that was not refused: field, line
-- break, value. One column, because there are many rows.
SELECT convert_to(viewer || '|' || key || E'\n' || concat_ws('|', fingerprint, epoch, seq, created_at_ms, price_minor),
                  'UTF8') AS line,
       status IN ('confirmed', 'paid') AS live
  FROM orders WHERE sale_no = $1 AND key IS NOT NULL AND status <> 'refused';

-- name: answers_named
SELECT o.viewer || '|' || o.key AS field,
       concat_ws('|', o.fingerprint, o.epoch, o.seq, o.created_at_ms, o.price_minor) AS answer,
       o.status IN ('confirmed', 'paid') AS live
  FROM unnest($2::text[], $3::text[]) AS u(viewer, key)
  JOIN orders o ON o.viewer = u.viewer AND o.sale_no = $1 AND o.key = u.key
 WHERE o.status <> 'refused';

-- name: units
-- What Valkey counts by viewer and item, as `place_orders.lua` spells it: field, line break, value.
SELECT convert_to(viewer || '|' || item_no || E'\n' || units, 'UTF8') AS line, true AS live
  FROM holdings WHERE sale_no = $1 AND units > 0;

-- name: units_named
SELECT h.viewer || '|' || h.item_no AS field, h.units
  FROM unnest($2::text[], $3::int2[]) AS u(viewer, item_no)
  JOIN holdings h ON h.viewer = u.viewer AND h.sale_no = $1 AND h.item_no = u.item_no
 WHERE h.units > 0;
