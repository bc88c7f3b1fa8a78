-- The queries of rebuild.py.

-- name: loaded_sales
-- Sales of a shard that Valkey was given and still has to have.
SELECT s.sale_no FROM sales s JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND s.loaded_epoch IS NOT NULL AND s.retired_at IS NULL;

-- name: fence
-- A fresh token for a rebuild that begins.
UPDATE shards SET load_token = load_token + 1 WHERE shard = $1 AND epoch = $2 AND load_token = $3 RETURNING load_token;

-- name: begin_load
-- A fresh token for who goes on with an epoch that began and does not sell yet.
UPDATE shards SET load_token = load_token + 1, reopen = $4
 WHERE shard = $1 AND epoch = $2 AND load_token = $3 AND reopen IS NOT NULL
RETURNING load_token;

-- name: recounted
-- The row of the shard on the snapshot: whether the rebuild is still the latest, and what the recount will have in it.
SELECT outbox_no FROM shards WHERE shard = $1 AND epoch = $2 AND load_token = $3 AND reopen = 'recount';

-- name: sales
-- Sales to be filled: those that Valkey was given, any with orders, and any that may still sell, because whoever gave it
-- to Valkey a moment ago may not have marked it yet. The others never sell again.
SELECT s.sale_no, s.hold, s.opens_at_ms, s.closes_at_ms
  FROM sales s JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND s.retired_at IS NULL
   AND (s.loaded_epoch IS NOT NULL
        OR s.hold <> 'closed' AND s.closes_at_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        OR EXISTS (SELECT FROM orders o WHERE o.sale_no = s.sale_no))
 ORDER BY s.sale_no;

-- name: items
SELECT sale_no, item_no, price_minor, limit_per_viewer, stock, stock - held - sold AS units_left, held
  FROM sale_items WHERE sale_no = ANY($1::int[]) ORDER BY sale_no, item_no;

-- name: answers
-- Answers as lua/place_orders.lua spells them: every key that holds an order.
SELECT sale_no, viewer || '|' || key,
       fingerprint || '|' || epoch || '|' || seq || '|' || created_at_ms || '|' || price_minor
  FROM orders WHERE sale_no = ANY($1::int[]) AND key IS NOT NULL AND status <> 'refused';

-- name: units
SELECT sale_no, viewer || '|' || item_no, units::text
  FROM holdings WHERE sale_no = ANY($1::int[]) AND units > 0;

-- name: acts
-- Keys of hosts' acts that had an effect in the last minutes, as lua/control_sale.lua spells them. Of no epoch: the ledger
-- has them. Who repeats a key later than that is answered by the ledger before Valkey is asked.
SELECT h.shop || '|' || e.caller || '|' || e.key, e.fingerprint || '|0|0'
  FROM effects e JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND e.kind IN ('stock', 'price') AND e.created_at > clock_timestamp() - interval '10 minutes';

-- name: finish
-- The epoch sells. Where another rebuild has begun since, nothing is said in its place.
WITH done AS (
    UPDATE shards SET reopen = NULL, opened = true
     WHERE shard = $1 AND epoch = $2 AND reopen IS NOT NULL
       AND ($3::bigint IS NULL OR load_token = $3)
    RETURNING shard, epoch
), told AS (
    UPDATE epochs e SET reopened_at = clock_timestamp(), orders = $4
      FROM done WHERE e.shard = done.shard
       AND e.epoch = (SELECT max(x.epoch) FROM epochs x WHERE x.shard = done.shard)
)
UPDATE sales s SET loaded_epoch = done.epoch
  FROM done, shops h
 WHERE h.shop_no = s.shop_no AND h.shard = done.shard AND s.loaded_epoch < done.epoch
   AND s.retired_at IS NULL;

-- name: ended
-- How the epochs that began after the ones given came to sell.
SELECT e.shard, e.epoch, e.why, e.how, e.last_seq, e.orders, d.epoch AS now_epoch,
       extract(epoch FROM e.reopened_at - e.ended_at)::float8 AS seconds
  FROM unnest($1::int2[], $2::int[]) AS u(shard, epoch)
  JOIN shards d ON d.shard = u.shard
  LEFT JOIN epochs e ON e.shard = u.shard AND e.epoch = u.epoch AND d.reopen IS NULL
 ORDER BY e.shard;
