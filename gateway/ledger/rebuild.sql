-- The queries of rebuild.py.

-- name: loaded_sales
-- Sales of a shard that Valkey was given and still has to have.
SELECT s.sale_no FROM sales s JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND s.loaded_epoch IS NOT NULL AND s.retired_at IS NULL;

-- name: loaded_coupons
-- Coupons of a shard that Valkey was given and still has to have.
SELECT k.coupon_no FROM coupons k JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND k.loaded_epoch IS NOT NULL AND k.retired_at IS NULL;

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
SELECT sale_no, item_no, price_minor, limit_per_viewer, stock, stock - held - sold AS units_left, held,
       coalesce(floor_minor, 0), plan_text(prices)
  FROM sale_items WHERE sale_no = ANY($1::int[]) ORDER BY sale_no, item_no;

-- name: answers
-- Answers as lua/place_orders.lua spells them: every key that holds an order.
SELECT sale_no, viewer || '|' || key,
       fingerprint || '|' || epoch || '|' || seq || '|' || created_at_ms || '|' || price_minor
           || CASE WHEN discount_minor > 0 THEN '|' || discount_minor ELSE '' END
  FROM orders WHERE sale_no = ANY($1::int[]) AND key IS NOT NULL AND status <> 'refused';

-- name: units
SELECT sale_no, viewer || '|' || item_no, units::text
  FROM holdings WHERE sale_no = ANY($1::int[]) AND units > 0;

-- name: coupons
-- Coupons to be filled: those that Valkey was given, any with claims, and any that may still be used, because whoever gave it
-- to Valkey a moment ago may not have marked it yet.
SELECT k.coupon_no, k.coupon, h.shop, h.shard, NULL AS room, NULL AS dropped_room, k.title, k.kind, k.currency,
       k.value_minor, k.percent, k.min_minor,
       k.max_minor, k.budget_minor, k.threshold_minor, k.copies, k.limit_per_viewer, k.claim_from_ms, k.claim_until_ms,
       k.valid_until_ms, k.created_at_ms, false AS retired,
       ARRAY(SELECT b.sale_no FROM coupon_sales b WHERE b.coupon_no = k.coupon_no ORDER BY b.sale_no) AS sales,
       k.copies - k.claimed AS copies_left, k.budget_minor - k.spent_minor AS budget_left
  FROM coupons k JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND k.retired_at IS NULL
   AND (k.loaded_epoch IS NOT NULL OR k.claimed > 0
        OR k.valid_until_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
 ORDER BY k.coupon_no;

-- name: claim_answers
-- Answers as lua/claim_coupons.lua spells them: every key that holds a claim.
SELECT coupon_no, viewer || '|' || key, concat_ws('|', epoch, seq, at_ms, value_minor)
  FROM claims WHERE coupon_no = ANY($1::int[]) AND key IS NOT NULL;

-- name: claim_viewers
SELECT coupon_no, viewer, claims::text FROM coupon_holdings WHERE coupon_no = ANY($1::int[]) AND claims > 0;

-- name: claims
-- Claims as the scripts spell them, with the place of the order that redeems each.
SELECT c.coupon_no, c.epoch || '|' || c.seq,
       c.value_minor || '|' || CASE WHEN o.order_id IS NULL THEN '' ELSE o.epoch || ':' || o.seq END || '|' || c.viewer
  FROM claims c LEFT JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id
 WHERE c.coupon_no = ANY($1::int[]) AND c.state <> 'refused';

-- name: acts
-- Keys of hosts' acts that had an effect in the last minutes, as lua/control_sale.lua and control_coupon.lua spell them. Of no
-- epoch: the ledger has them. Who repeats a key later than that is answered by the ledger before Valkey is asked.
SELECT h.shop || '|' || e.caller || '|' || CASE e.kind WHEN 'drop' THEN 'drop+' ELSE '' END || e.key, e.fingerprint || '|0|0'
  FROM effects e JOIN shops h USING (shop_no)
 WHERE h.shard = $1 AND e.kind IN ('stock', 'price', 'plan', 'window', 'drop')
   AND e.created_at > clock_timestamp() - interval '10 minutes';

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
), coupons_in AS (
    UPDATE coupons k SET loaded_epoch = done.epoch
      FROM done, shops h
     WHERE h.shop_no = k.shop_no AND h.shard = done.shard AND k.loaded_epoch < done.epoch AND k.retired_at IS NULL
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
