-- What the audit reads of coupons and claims, in the same snapshot as the rest. Live claims are those that were not refused.

-- name: plan
-- Which coupons are to be audited, by the shard of their shop: those of the shop of a sale, all, or those that Valkey has and
-- was not asked to forget.
SELECT h.shard, k.coupon_no
  FROM coupons k JOIN shops h USING (shop_no)
 WHERE ($1::text IS NULL OR k.shop_no = (SELECT s.shop_no FROM sales s WHERE s.sale = $1))
   AND (NOT $2::bool OR (k.loaded_epoch IS NOT NULL AND k.retired_at IS NULL))
 ORDER BY h.shard, k.coupon_no;

-- name: coupons
-- Each with what its claims come to.
SELECT k.coupon_no, coalesce(k.coupon, k.coupon_no::text) AS coupon, h.shop, h.shard, NULL AS room, NULL AS dropped_room,
       k.title, k.kind, k.currency, k.value_minor, k.percent, k.min_minor, k.max_minor, k.budget_minor, k.threshold_minor,
       k.copies, k.limit_per_viewer, k.claim_from_ms, k.claim_until_ms, k.valid_until_ms, k.created_at_ms,
       k.retired_at IS NOT NULL AS retired,
       ARRAY(SELECT b.sale_no FROM coupon_sales b WHERE b.coupon_no = k.coupon_no ORDER BY b.sale_no) AS sales,
       k.claimed, k.spent_minor, k.loaded_epoch, coalesce(c.claims, 0) AS claims, coalesce(c.worth, 0)::bigint AS worth_minor,
       coalesce(c.lowest, 0) AS lowest_minor, coalesce(c.highest, 0) AS highest_minor, coalesce(c.redeemed, 0) AS redeemed,
       coalesce(c.refused, 0) AS refused
  FROM coupons k JOIN shops h USING (shop_no)
  LEFT JOIN (SELECT coupon_no, count(*) FILTER (WHERE state <> 'refused') AS claims,
                    sum(value_minor) FILTER (WHERE state <> 'refused') AS worth,
                    min(value_minor) FILTER (WHERE state <> 'refused') AS lowest,
                    max(value_minor) FILTER (WHERE state <> 'refused') AS highest,
                    count(*) FILTER (WHERE state = 'redeemed') AS redeemed,
                    count(*) FILTER (WHERE state = 'refused') AS refused
               FROM claims WHERE coupon_no = ANY($1::int[]) GROUP BY coupon_no) c USING (coupon_no)
 WHERE k.coupon_no = ANY($1::int[]) ORDER BY k.coupon_no;

-- name: pending
-- Claims that the ledger refused and of which Valkey has not been told, behind the number each shard was told up to.
SELECT u.shard, u.after, o.coupon_no, count(*) AS claims, coalesce(sum(c.value_minor), 0)::bigint AS worth
  FROM unnest($1::int2[], $2::int8[]) AS u(shard, after)
  JOIN outbox o ON o.shard = u.shard AND o.no > u.after AND o.kind = 'unclaim'
  LEFT JOIN claims c ON c.coupon_no = o.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq
 GROUP BY u.shard, u.after, o.coupon_no;

-- name: pending_named
-- Claims of which Valkey has something to be told: what it is, the viewer and the key of a refused one, and the claim.
SELECT kind, viewer, coalesce(key, ''), claim_epoch || '|' || claim_seq
  FROM outbox WHERE shard = $2::int2 AND no > $3 AND coupon_no = $1;

-- name: answers
-- What Valkey answers by key, as `claim_coupons.lua` spells it: field, line break, value.
SELECT convert_to(viewer || '|' || key || E'\n' || concat_ws('|', epoch, seq, at_ms, value_minor), 'UTF8') AS line
  FROM claims WHERE coupon_no = $1 AND key IS NOT NULL AND state <> 'refused';

-- name: viewers
SELECT convert_to(viewer || E'\n' || claims, 'UTF8') AS line FROM coupon_holdings WHERE coupon_no = $1 AND claims > 0;

-- name: claims
-- Claims with the place of the order that redeems each.
SELECT convert_to(c.epoch || '|' || c.seq || E'\n' || c.value_minor || '|'
                  || CASE WHEN o.order_id IS NULL THEN '' ELSE o.epoch || ':' || o.seq END || '|' || c.viewer, 'UTF8') AS line
  FROM claims c LEFT JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id
 WHERE c.coupon_no = $1 AND c.state <> 'refused';

-- name: answers_named
-- What the named keys answer; and those of refused claims that still answer because Valkey has not been told.
SELECT c.viewer || '|' || c.key, concat_ws('|', c.epoch, c.seq, c.at_ms, c.value_minor)
  FROM unnest($4::text[], $5::text[]) AS u(viewer, key)
  JOIN claims c ON c.viewer = u.viewer AND c.coupon_no = $1 AND c.key = u.key
 WHERE c.state <> 'refused'
UNION ALL
SELECT o.viewer || '|' || o.key, concat_ws('|', c.epoch, c.seq, c.at_ms, c.value_minor)
  FROM unnest($4::text[], $5::text[]) AS u(viewer, key)
  JOIN outbox o ON o.viewer = u.viewer AND o.key = u.key
  JOIN claims c ON c.coupon_no = o.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq
 WHERE o.shard = $2::int2 AND o.no > $3 AND o.coupon_no = $1 AND o.kind = 'unclaim';

-- name: viewers_named
-- Claims of viewers: live, and refused ones that count until Valkey is told.
SELECT n.viewer, coalesce(h.claims, 0), coalesce(o.claims, 0)
  FROM (SELECT DISTINCT viewer FROM unnest($4::text[]) AS u(viewer)) n
  LEFT JOIN coupon_holdings h ON h.viewer = n.viewer AND h.coupon_no = $1
  LEFT JOIN (SELECT viewer, count(*)::int AS claims FROM outbox
              WHERE shard = $2::int2 AND no > $3 AND coupon_no = $1 AND kind = 'unclaim' GROUP BY viewer) o
         ON o.viewer = n.viewer;

-- name: claims_named
-- The named claims: what each is, the place of the order that redeems it, whether Valkey still has it to be told that it was
-- refused, and the places of orders that ended or were refused and hold it until Valkey is told.
SELECT c.epoch || '|' || c.seq AS field, c.value_minor, c.viewer, c.state,
       CASE WHEN o.order_id IS NULL THEN '' ELSE o.epoch || ':' || o.seq END AS holder,
       EXISTS (SELECT FROM outbox b WHERE b.shard = $2::int2 AND b.no > $3 AND b.kind = 'unclaim'
                  AND b.coupon_no = c.coupon_no AND b.claim_epoch = c.epoch AND b.claim_seq = c.seq) AS leaving,
       ARRAY(SELECT b.epoch || ':' || b.seq FROM outbox b
              WHERE b.shard = $2::int2 AND b.no > $3 AND b.kind <> 'unclaim'
                AND b.coupon_no = c.coupon_no AND b.claim_epoch = c.epoch AND b.claim_seq = c.seq) AS letting_go
  FROM unnest($4::int[], $5::bigint[]) AS u(epoch, seq)
  JOIN claims c ON c.coupon_no = $1 AND c.epoch = u.epoch AND c.seq = u.seq
  LEFT JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id;

-- name: claims_of_orders
-- The claims that orders name, by order: (coupon, claim as the scripts spell it, the order's place).
SELECT o.coupon_no, o.claim_epoch || '|' || o.claim_seq, o.epoch || ':' || o.seq
  FROM unnest($1::int[], $2::text[]) AS u(sale_no, order_id)
  JOIN orders o ON o.sale_no = u.sale_no AND o.order_id = u.order_id
 WHERE o.coupon_no IS NOT NULL;

-- What is wrong in the ledger by itself, as in audit_lists.sql, among the coupons $1.

-- name: claim_holdings
-- Holdings that are not the number of the viewer's live claims; holdings past the limit.
WITH live AS (
    SELECT viewer, coupon_no, count(*) AS claims FROM claims
     WHERE coupon_no = ANY($1::int[]) AND state <> 'refused' GROUP BY viewer, coupon_no
), held AS (
    SELECT viewer, coupon_no, claims FROM coupon_holdings WHERE coupon_no = ANY($1)
), found AS (
    SELECT 'claim_holdings' AS rule, coupon_no, viewer,
           format('coupon %s viewer %s: holds %s, there are %s live claims', coupon_no, viewer, coalesce(held.claims, 0),
                  coalesce(live.claims, 0)) AS text
      FROM live FULL JOIN held USING (viewer, coupon_no)
     WHERE coalesce(held.claims, 0) <> coalesce(live.claims, 0)
    UNION ALL
    SELECT 'claim_limits', coupon_no, l.viewer,
           format('coupon %s viewer %s: has %s claims, the limit is %s', coupon_no, l.viewer, l.claims, k.limit_per_viewer)
      FROM live l JOIN coupons k USING (coupon_no) WHERE l.claims > k.limit_per_viewer
)
SELECT rule, text, t.total, '{}'::int[] AS sales
  FROM (SELECT rule, text, row_number() OVER (PARTITION BY rule ORDER BY coupon_no, viewer) AS at FROM found) AS each
  JOIN (SELECT rule, count(*) AS total FROM found GROUP BY rule) AS t USING (rule)
 WHERE at <= $2 ORDER BY rule, at;

-- name: claim_keys
-- Keys that more than one claim holds.
WITH found AS (
    SELECT coupon_no, viewer, key, format('coupon %s viewer %s key %s: %s claims', coupon_no, viewer, key, count(*)) AS text
      FROM claims WHERE coupon_no = ANY($1::int[]) AND key IS NOT NULL GROUP BY viewer, coupon_no, key HAVING count(*) > 1
)
SELECT text, count(*) OVER () AS total, '{}'::int[] AS sales FROM found ORDER BY coupon_no, viewer, key LIMIT $2;

-- name: claim_states
-- Claims that are not as their state says.
WITH found AS (
    SELECT coupon_no, epoch, seq,
           format('%s: state %s, reason %s, key %s, confirmed at %s, order %s', claim, state, reason, key, confirmed_at,
                  order_id) AS text
      FROM claims
     WHERE coupon_no = ANY($1::int[])
       AND (state NOT IN ('confirmed', 'redeemed', 'refused')
            OR CASE WHEN state = 'refused' THEN num_nonnulls(key, confirmed_at) > 0 OR reason IS NULL
                    ELSE num_nulls(key, confirmed_at) > 0 OR reason IS NOT NULL END
            OR num_nonnulls(sale_no, order_id) <> CASE state WHEN 'redeemed' THEN 2 ELSE 0 END)
)
SELECT text, count(*) OVER () AS total, '{}'::int[] AS sales FROM found ORDER BY coupon_no, epoch, seq LIMIT $2;

-- name: redeemed
-- Redeemed claims whose order is none that is live and names them; live orders of the sales $3 that name a claim which is not
-- redeemed by them. Two live orders of one claim are found by the one that does not redeem it.
WITH found AS (
    SELECT c.sale_no, c.claim AS place,
           format('%s: is redeemed by %s, which is %s and names %s', c.claim, c.order_id, coalesce(o.status, 'not there'),
                  coalesce(o.claim, 'none')) AS text
      FROM claims c LEFT JOIN orders o ON o.sale_no = c.sale_no AND o.order_id = c.order_id
     WHERE c.coupon_no = ANY($1::int[]) AND c.state = 'redeemed'
       AND NOT coalesce(o.status IN ('confirmed', 'paid') AND o.viewer = c.viewer
                        AND (o.coupon_no, o.claim_epoch, o.claim_seq) = (c.coupon_no, c.epoch, c.seq), false)
    UNION ALL
    SELECT o.sale_no, o.order_id,
           format('%s: is %s and names %s, which is %s by %s', o.order_id, o.status, o.claim, coalesce(c.state, 'not there'),
                  coalesce(c.order_id, 'none')) AS text
      FROM orders o LEFT JOIN claims c ON c.coupon_no = o.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq
     WHERE o.sale_no = ANY($3::int[]) AND o.coupon_no IS NOT NULL AND o.status IN ('confirmed', 'paid')
       AND NOT coalesce(c.state = 'redeemed' AND (c.sale_no, c.order_id) = (o.sale_no, o.order_id), false)
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found WHERE sale_no IS NOT NULL) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;
