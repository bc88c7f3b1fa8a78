-- The queries of audit.py, all of them run in one read-only snapshot. Live orders are those whose units are taken: confirmed
-- or paid.

-- name: plan
-- Which sales are to be audited, by the shard of their shop: one, all, or those that Valkey has and was not asked to forget.
SELECT h.shard, s.sale_no
  FROM sales s JOIN shops h USING (shop_no)
 WHERE ($1::text IS NULL OR s.sale = $1) AND (NOT $2::bool OR (s.loaded_epoch IS NOT NULL AND s.retired_at IS NULL))
 ORDER BY h.shard, s.sale_no;

-- name: shards
-- Where each shard's cursor stands, and whether it is being rebuilt or is about to. The first query of a snapshot: Valkey is
-- read right after it.
SELECT shard, epoch, last_seq, outbox_no, num_nonnulls(reopen, wants) > 0 FROM shards ORDER BY shard;

-- name: sales
SELECT s.sale_no, coalesce(s.sale, s.sale_no::text), h.shard, s.currency, s.hold, s.opens_at_ms, s.closes_at_ms,
       s.loaded_epoch, s.retired_at IS NOT NULL
  FROM sales s JOIN shops h USING (shop_no)
 WHERE s.sale_no = ANY($1::int[]) ORDER BY s.sale_no;

-- name: pending
-- What the ledger ended and Valkey has not been told, behind the number each shard was told up to; of claims without a sale.
SELECT u.shard, u.after, coalesce(o.sale_no, 0), o.item_no, o.kind, count(*) AS rows, sum(o.quantity)::bigint AS units
  FROM unnest($1::int2[], $2::int8[]) AS u(shard, after) JOIN outbox o ON o.shard = u.shard AND o.no > u.after
 GROUP BY u.shard, u.after, o.sale_no, o.item_no, o.kind;

-- name: outbox
SELECT u.shard, count(o.no), coalesce(min(o.no), 0), coalesce(max(o.no), 0)
  FROM unnest($1::int2[]) AS u(shard) LEFT JOIN outbox o USING (shard) GROUP BY u.shard;

-- name: items
SELECT sale_no, item_no, sku, price_minor, limit_per_viewer, stock, held, sold, coalesce(floor_minor, 0), plan_text(prices)
  FROM sale_items
 WHERE sale_no = ANY($1::int[]) ORDER BY sale_no, item_no;

-- name: sums
SELECT sale_no, item_no, status, count(*) AS orders, sum(quantity)::bigint AS units, sum(amount_minor)::bigint AS amount_minor
  FROM orders WHERE sale_no = ANY($1::int[]) GROUP BY sale_no, item_no, status ORDER BY sale_no, item_no, status;

-- name: money
-- Payments of the sales by state; those of no sale only when they are asked for.
SELECT sale_no, state, count(*), sum(amount_minor)::bigint FROM payments
 WHERE sale_no = ANY($1::int[]) OR ($2::bool AND sale_no IS NULL) GROUP BY sale_no, state ORDER BY sale_no, state;

-- name: numbers
-- The sequence numbers of each shard's epochs: how many stand in orders, claims, acts, revivals, parked and lost entries,
-- and how
-- many times. With floors ($2 to $4: shard, epoch, number) only those behind them, in their epochs; sales that were retired
-- a day ago have none of them.
WITH ends AS (
    SELECT e.shard, e.epoch, e.last_seq, coalesce(f.after, 0) AS after
      FROM (SELECT shard, epoch, last_seq FROM shards UNION ALL SELECT shard, epoch, last_seq FROM epochs) e
      LEFT JOIN unnest($2::int2[], $3::int[], $4::int8[]) AS f(shard, epoch, after) USING (shard, epoch)
     WHERE e.shard = ANY($1::int2[]) AND ($2 IS NULL OR f.shard IS NOT NULL)
), numbers AS (
    SELECT h.shard, o.epoch, o.seq FROM orders o JOIN sales s USING (sale_no) JOIN shops h USING (shop_no)
     WHERE o.reason IS DISTINCT FROM 'data'  -- those are counted as parked
       AND ($2 IS NULL OR s.retired_at IS NULL OR s.retired_at > now() - interval '1 day')
    UNION ALL
    SELECT h.shard, c.epoch, c.seq FROM claims c JOIN coupons k USING (coupon_no) JOIN shops h USING (shop_no)
     WHERE c.reason IS DISTINCT FROM 'data'
       AND ($2 IS NULL OR k.retired_at IS NULL OR k.retired_at > now() - interval '1 day')
    UNION ALL
    SELECT shard, epoch, seq FROM acts
    UNION ALL
    SELECT shard, epoch, seq FROM coupon_acts
    UNION ALL
    SELECT shard, epoch, seq FROM revivals
    UNION ALL
    SELECT shard, epoch, n FROM parked, generate_series(first_seq, last_seq) n
    UNION ALL
    SELECT shard, epoch, n FROM lost_seqs, generate_series(first_seq, last_seq) n
), counted AS (
    SELECT shard, epoch, count(*) AS numbers, sum(times)::bigint AS times, min(seq) AS lowest, max(seq) AS highest
      FROM (SELECT n.shard, n.epoch, n.seq, count(*) AS times
              FROM numbers n LEFT JOIN ends e USING (shard, epoch)
             WHERE n.shard = ANY($1) AND ($2 IS NULL OR n.seq > e.after)
             GROUP BY n.shard, n.epoch, n.seq) AS each
     GROUP BY shard, epoch
)
SELECT shard, epoch, coalesce(e.after, 0), e.last_seq, coalesce(c.numbers, 0), coalesce(c.times, 0), coalesce(c.lowest, 0),
       coalesce(c.highest, 0)
  FROM ends e FULL JOIN counted c USING (shard, epoch) ORDER BY shard, epoch;

-- name: numbers_off
-- Which sequence numbers are missing up to the end, stand there twice, or stand behind it; asked when `numbers` is off.
WITH ends AS (
    SELECT e.shard, e.epoch, e.last_seq, coalesce(f.after, 0) AS after
      FROM (SELECT shard, epoch, last_seq FROM shards UNION ALL SELECT shard, epoch, last_seq FROM epochs) e
      LEFT JOIN unnest($2::int2[], $3::int[], $4::int8[]) AS f(shard, epoch, after) USING (shard, epoch)
     WHERE e.shard = ANY($1::int2[]) AND ($2 IS NULL OR f.shard IS NOT NULL)
), numbers AS (
    SELECT n.shard, n.epoch, n.seq, n.sale_no, coalesce(e.last_seq, 0) AS last_seq FROM (
        SELECT h.shard, o.epoch, o.seq, sale_no FROM orders o JOIN sales s USING (sale_no) JOIN shops h USING (shop_no)
         WHERE o.reason IS DISTINCT FROM 'data'
           AND ($2 IS NULL OR s.retired_at IS NULL OR s.retired_at > now() - interval '1 day')
        UNION ALL
        SELECT h.shard, c.epoch, c.seq, NULL FROM claims c JOIN coupons k USING (coupon_no) JOIN shops h USING (shop_no)
         WHERE c.reason IS DISTINCT FROM 'data'
           AND ($2 IS NULL OR k.retired_at IS NULL OR k.retired_at > now() - interval '1 day')
        UNION ALL
        SELECT shard, epoch, seq, sale_no FROM acts
        UNION ALL
        SELECT shard, epoch, seq, NULL FROM coupon_acts
        UNION ALL
        SELECT shard, epoch, seq, sale_no FROM revivals
        UNION ALL
        SELECT shard, epoch, n, NULL FROM parked, generate_series(first_seq, last_seq) n
        UNION ALL
        SELECT shard, epoch, n, NULL FROM lost_seqs, generate_series(first_seq, last_seq) n
    ) n LEFT JOIN ends e USING (shard, epoch)
     WHERE n.shard = ANY($1) AND ($2 IS NULL OR n.seq > e.after)
), marks AS (
    SELECT shard, epoch, seq FROM numbers WHERE seq <= last_seq
    UNION SELECT shard, epoch, after FROM ends
    UNION SELECT shard, epoch, last_seq + 1 FROM ends
), found AS (
    SELECT shard, epoch, seq + 1 AS at, NULL::int AS sale_no,
           format('shard %s epoch %s: sequence numbers %s to %s are missing', shard, epoch, seq + 1, next - 1) AS text
      FROM (SELECT *, lead(seq) OVER (PARTITION BY shard, epoch ORDER BY seq) AS next FROM marks) AS each
     WHERE next > seq + 1
    UNION ALL
    SELECT shard, epoch, seq, min(sale_no),
           format('shard %s epoch %s: sequence number %s stands %s times', shard, epoch, seq, count(*))
      FROM numbers GROUP BY shard, epoch, seq HAVING count(*) > 1
    UNION ALL
    SELECT shard, epoch, seq, sale_no,
           format('shard %s epoch %s: sequence number %s is behind the end %s', shard, epoch, seq, last_seq)
      FROM numbers WHERE seq > last_seq
)
SELECT text, count(*) OVER () AS total, '{}'::int[] AS sales FROM found ORDER BY shard, epoch, at LIMIT $5;

-- name: parked
SELECT shard, epoch, first_seq, last_seq, reason, count(*) OVER () AS total
  FROM parked WHERE shard = ANY($1::int2[]) ORDER BY parked_at DESC LIMIT $2;

-- name: answers
-- What Valkey answers by key, as `place_orders.lua` spells it, of every order of a sale that was not refused: field, line
-- break, value.
SELECT convert_to(viewer || '|' || key || E'\n' || concat_ws('|', fingerprint, epoch, seq, created_at_ms, price_minor,
                                                                nullif(discount_minor, 0)), 'UTF8') AS line
  FROM orders WHERE sale_no = $1 AND key IS NOT NULL AND status <> 'refused';

-- name: answers_named
SELECT o.viewer || '|' || o.key, concat_ws('|', o.fingerprint, o.epoch, o.seq, o.created_at_ms, o.price_minor,
                                          nullif(o.discount_minor, 0))
  FROM unnest($2::text[], $3::text[]) AS u(viewer, key)
  JOIN orders o ON o.viewer = u.viewer AND o.sale_no = $1 AND o.key = u.key
 WHERE o.status <> 'refused';

-- name: refusing_named
-- Places of refused orders that still hold one of the named keys, because Valkey has not been told.
SELECT o.viewer || '|' || o.key AS field, o.epoch, o.seq
  FROM unnest($4::text[], $5::text[]) AS u(viewer, key)
  JOIN outbox o ON o.viewer = u.viewer AND o.key = u.key
 WHERE o.sale_no = $1 AND o.shard = $2::int2 AND o.no > $3 AND o.kind = 'refuse';

-- name: units
-- What Valkey counts by viewer and item, as `place_orders.lua` spells it: field, line break, value. Units of orders that
-- ended count until it is told.
SELECT convert_to(viewer || '|' || item_no || E'\n' || coalesce(h.units, 0) + coalesce(o.units, 0), 'UTF8') AS line
  FROM (SELECT viewer, item_no, units FROM holdings WHERE sale_no = $1) h
  FULL JOIN (SELECT viewer, item_no, sum(quantity)::int AS units FROM outbox
              WHERE shard = $2::int2 AND no > $3 AND sale_no = $1 AND kind <> 'paid'
              GROUP BY viewer, item_no) o USING (viewer, item_no)
 WHERE coalesce(h.units, 0) + coalesce(o.units, 0) > 0;

-- name: units_named
WITH named AS (SELECT DISTINCT viewer, item_no FROM unnest($4::text[], $5::int2[]) AS u(viewer, item_no)),
     ending AS (
    SELECT o.viewer, o.item_no, sum(o.quantity)::int AS units FROM named JOIN outbox o USING (viewer, item_no)
     WHERE o.shard = $2::int2 AND o.no > $3 AND o.sale_no = $1 AND o.kind <> 'paid'
     GROUP BY o.viewer, o.item_no
)
SELECT n.viewer || '|' || n.item_no, coalesce(h.units, 0), coalesce(e.units, 0)
  FROM named n
  LEFT JOIN holdings h ON h.viewer = n.viewer AND h.sale_no = $1 AND h.item_no = n.item_no
  LEFT JOIN ending e ON e.viewer = n.viewer AND e.item_no = n.item_no;
