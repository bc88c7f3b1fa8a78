-- What is wrong in the ledger by itself, rule by rule. Each query gives the first $2 of what it finds in the sales $1 (text),
-- with how many there are in all (total) and of which sales (sales); some of them give lists of several rules (rule).

-- name: holdings
-- Holdings that are not the sum of the viewer's live orders of the item; holdings past the limit.
WITH live AS (
    SELECT viewer, sale_no, item_no, sum(quantity) AS units FROM orders
     WHERE sale_no = ANY($1::int[]) AND status IN ('confirmed', 'paid') GROUP BY viewer, sale_no, item_no
), held AS (
    SELECT viewer, sale_no, item_no, units FROM holdings WHERE sale_no = ANY($1)
), found AS (
    SELECT 'holdings' AS rule, sale_no, concat_ws('|', item_no, viewer) AS place,
           format('sale %s item %s viewer %s: holds %s, live orders have %s', sale_no, item_no, viewer,
                  coalesce(held.units, 0), coalesce(live.units, 0)) AS text
      FROM live FULL JOIN held USING (viewer, sale_no, item_no)
     WHERE coalesce(held.units, 0) <> coalesce(live.units, 0)
    UNION ALL
    SELECT 'limits', sale_no, concat_ws('|', item_no, h.viewer),
           format('sale %s item %s viewer %s: holds %s, the limit is %s', sale_no, item_no, h.viewer, h.units,
                  i.limit_per_viewer)
      FROM held h JOIN sale_items i USING (sale_no, item_no) WHERE h.units > i.limit_per_viewer
)
SELECT rule, text, t.total, t.sales
  FROM (SELECT rule, text, row_number() OVER (PARTITION BY rule ORDER BY sale_no, place) AS at FROM found) AS each
  JOIN (SELECT rule, count(*) AS total, array_agg(DISTINCT sale_no) AS sales FROM found GROUP BY rule) AS t USING (rule)
 WHERE at <= $2 ORDER BY rule, at;

-- name: keys
-- Keys that more than one order holds.
WITH found AS (
    SELECT sale_no, concat_ws('|', viewer, key) AS place,
           format('sale %s viewer %s key %s: %s orders', sale_no, viewer, key, count(*)) AS text
      FROM orders WHERE sale_no = ANY($1::int[]) AND key IS NOT NULL GROUP BY viewer, sale_no, key HAVING count(*) > 1
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: orders
-- Orders that are wrong by themselves, in one pass: their amount; their price, which their item has or its plan or an act of their
-- sale names; what their status goes with.
WITH prices AS (
    SELECT a.sale_no, p.price::bigint AS price
      FROM acts a
     -- A price act says the price, and behind it the plan that it ended.
     CROSS JOIN LATERAL (SELECT CASE a.act WHEN 'price' THEN split_part(a.before, ' ', 1) END AS was,
                                CASE a.act WHEN 'price' THEN split_part(a.before, ' ', 2) ELSE a.before END AS plan) AS each
     CROSS JOIN LATERAL (
            SELECT unnest(ARRAY[each.was, CASE a.act WHEN 'price' THEN a.after END])
             UNION ALL
            SELECT split_part(step, ':', 2)
              FROM unnest(string_to_array(each.plan, ';') || string_to_array(CASE a.act WHEN 'plan' THEN a.after END, ';'))
                   AS steps(step)) AS p(price)
     WHERE a.sale_no = ANY($1::int[]) AND a.act IN ('price', 'plan') AND p.price <> '' GROUP BY a.sale_no, p.price::bigint
    UNION
    SELECT i.sale_no, (step.value ->> 1)::bigint FROM sale_items i, jsonb_array_elements(i.prices) AS step
     WHERE i.sale_no = ANY($1::int[])
), wrong AS (
    SELECT * FROM (
        SELECT o.*, i.price_minor AS item_price,
               o.amount_minor <> o.price_minor * o.quantity - o.discount_minor AS amounts_off,
               o.status <> 'refused' AND o.price_minor <> i.price_minor
                   AND (o.sale_no, o.price_minor) NOT IN (SELECT sale_no, price FROM prices) AS prices_off,
               o.status NOT IN ('confirmed', 'paid', 'expired', 'cancelled', 'refused', 'refund_due', 'refunded')
                   OR CASE WHEN o.status = 'refused'
                           THEN num_nonnulls(o.key, o.confirmed_at) > 0 OR o.reason IS NULL
                           ELSE num_nulls(o.key, o.confirmed_at, o.pay_by) > 0 OR o.reason IS NOT NULL
                                OR o.pay_by <= o.confirmed_at END AS states_off
          FROM orders o LEFT JOIN sale_items i USING (sale_no, item_no)
         WHERE o.sale_no = ANY($1)) AS each
     WHERE amounts_off OR prices_off OR states_off
), found AS (
    SELECT w.rule, o.sale_no, o.order_id AS place, format('%s: %s', o.order_id, w.text) AS text
      FROM wrong o CROSS JOIN LATERAL (VALUES
        ('amounts', amounts_off, format('amount %s, price %s, quantity %s, discount %s', o.amount_minor, o.price_minor,
                                        o.quantity, o.discount_minor)),
        ('prices', prices_off, format('price %s, item %s costs %s', o.price_minor, o.item_no, o.item_price)),
        ('states', states_off, format('status %s, reason %s, key %s, confirmed at %s, to be paid by %s', o.status, o.reason,
                                      o.key, o.confirmed_at, o.pay_by))
      ) AS w(rule, is_off, text)
     WHERE w.is_off
)
SELECT rule, text, t.total, t.sales
  FROM (SELECT rule, text, row_number() OVER (PARTITION BY rule ORDER BY sale_no, place) AS at FROM found) AS each
  JOIN (SELECT rule, count(*) AS total, array_agg(DISTINCT sale_no) AS sales FROM found GROUP BY rule) AS t USING (rule)
 WHERE at <= $2 ORDER BY rule, at;

-- name: discounts
-- Orders whose discount is not what their claim gives, or that could not use it: their coupon was past its
-- time, of another shop or currency, or bound to other sales. So nothing is sold under its floor either.
WITH found AS (
    SELECT o.sale_no, o.order_id AS place,
           format('%s: discount %s of %s, %s gives %s', o.order_id, o.discount_minor, o.price_minor * o.quantity,
                  coalesce(o.claim, 'no claim'), coalesce(g.discount, 0)) AS text
      FROM orders o
      JOIN sales s USING (sale_no)
      LEFT JOIN sale_items i USING (sale_no, item_no)
      LEFT JOIN claims c ON c.coupon_no = o.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq
      LEFT JOIN coupons k ON k.coupon_no = c.coupon_no AND k.shop_no = s.shop_no AND k.currency = s.currency
           AND o.created_at_ms < k.valid_until_ms
           AND (EXISTS (SELECT FROM coupon_sales b WHERE b.coupon_no = k.coupon_no AND b.sale_no = o.sale_no)
                OR NOT EXISTS (SELECT FROM coupon_sales b WHERE b.coupon_no = k.coupon_no))
      CROSS JOIN LATERAL (SELECT discount_of(k.kind, k.value_minor, k.percent, k.threshold_minor, c.value_minor,
                                             o.price_minor * o.quantity, coalesce(i.floor_minor, 0) * o.quantity) AS discount) g
     WHERE o.sale_no = ANY($1::int[]) AND (o.coupon_no IS NOT NULL OR o.discount_minor <> 0) AND o.status <> 'refused'
       AND (k.coupon_no IS NULL OR o.discount_minor IS DISTINCT FROM g.discount OR o.discount_minor <= 0)
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: deadlines
-- Confirmed orders that no deadline would end: each is to stand in the range of one that is due no sooner than the order.
-- The ranges are read through the primary key, one after the other (OFFSET 0 keeps it so).
WITH covered AS (
    SELECT d.sale_no, o.order_id FROM deadlines d CROSS JOIN LATERAL (
        SELECT order_id FROM orders x
         WHERE x.sale_no = d.sale_no AND x.order_id >= d.first_id AND x.order_id <= d.last_id
           AND x.status = 'confirmed' AND x.pay_by <= d.pay_by OFFSET 0) o
     WHERE d.sale_no = ANY($1::int[])
), found AS (
    SELECT o.sale_no, o.order_id AS place, format('%s: to be paid by %s', o.order_id, o.pay_by) AS text
      FROM orders o LEFT JOIN covered c ON c.sale_no = o.sale_no AND c.order_id = o.order_id
     WHERE o.sale_no = ANY($1) AND o.status = 'confirmed' AND c.order_id IS NULL
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: overdue
-- Confirmed orders a minute past their deadline, when the snapshot began: a keeper that was restarted has long been back.
WITH found AS (
    SELECT sale_no, order_id AS place, format('%s: was to be paid by %s', order_id, pay_by) AS text
      FROM orders WHERE sale_no = ANY($1::int[]) AND status = 'confirmed' AND pay_by < now() - interval '60 seconds'
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: transactions
-- Transactions that stand more than once, in the shops of the sales.
WITH found AS (
    SELECT format('%s|%s|%s', shop_no, provider, txn) AS place, array_agg(sale_no) AS sales,
           format('transaction %s of %s: stands %s times, as payments %s', txn, provider, count(*),
                  string_agg(payment_no::text, ', ' ORDER BY payment_no)) AS text
      FROM payments WHERE shop_no IN (SELECT shop_no FROM sales WHERE sale_no = ANY($1::int[]))
     GROUP BY shop_no, provider, txn HAVING count(*) > 1
)
SELECT text, count(*) OVER () AS total,
       (SELECT array_agg(DISTINCT n) FROM found f, unnest(f.sales) n WHERE n IS NOT NULL) AS sales
  FROM found ORDER BY place LIMIT $2;

-- name: paid
-- Paid orders without exactly one payment that counts, of their amount; orders that are not paid and have one.
WITH counting AS (
    SELECT sale_no, order_id, count(*) AS payments, sum(amount_minor) AS amount FROM payments
     WHERE sale_no = ANY($1::int[]) AND state = 'applied' GROUP BY sale_no, order_id
), found AS (
    SELECT o.sale_no, o.order_id AS place,
           format('%s: %s, costs %s; %s payments of %s count', o.order_id, o.status, o.amount_minor, coalesce(c.payments, 0),
                  coalesce(c.amount, 0)) AS text
      FROM orders o LEFT JOIN counting c USING (sale_no, order_id)
     WHERE o.sale_no = ANY($1)
       AND CASE WHEN o.status = 'paid' THEN c.payments IS DISTINCT FROM 1 OR c.amount <> o.amount_minor
                ELSE c.payments IS NOT NULL END
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: late
-- Late money that waits for an order which is not expired.
WITH found AS (
    SELECT sale_no, payment_no AS place,
           format('payment %s: waits for %s, which is %s', payment_no, order_id, o.status) AS text
      FROM payments p JOIN orders o USING (sale_no, order_id)
     WHERE sale_no = ANY($1::int[]) AND p.state = 'waiting' AND o.status <> 'expired'
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: late_waits
-- Late money that waits for more than a minute, when the snapshot began.
WITH found AS (
    SELECT sale_no, payment_no AS place, format('payment %s: waits since %s', payment_no, received_at) AS text
      FROM payments WHERE sale_no = ANY($1::int[]) AND state = 'waiting' AND received_at < now() - interval '60 seconds'
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: revived
-- Late money by which an order came back more than once, or came back and the money does not count.
WITH found AS (
    SELECT r.sale_no, r.payment_no AS place,
           format('payment %s: brought its order back %s times, and is %s', r.payment_no, count(*),
                  coalesce(max(p.state), 'not there')) AS text
      FROM revivals r LEFT JOIN payments p USING (payment_no)
     WHERE r.sale_no = ANY($1::int[]) AND r.revived
     GROUP BY r.sale_no, r.payment_no
    HAVING count(*) > 1 OR coalesce(max(p.state), '') NOT IN ('applied', 'refunded')
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: refunds
-- Orders that are to be refunded, or were, without a payment of that state.
WITH found AS (
    SELECT o.sale_no, o.order_id AS place, format('%s: is %s, and has no payment that is', o.order_id, o.status) AS text
      FROM orders o
     WHERE o.sale_no = ANY($1::int[]) AND o.status IN ('refund_due', 'refunded')
       AND NOT EXISTS (SELECT FROM payments p WHERE p.sale_no = o.sale_no AND p.order_id = o.order_id AND p.state = o.status)
)
SELECT text, count(*) OVER () AS total, (SELECT array_agg(DISTINCT sale_no) FROM found) AS sales
  FROM found ORDER BY sale_no, place LIMIT $2;

-- name: money_of_orders
-- Payments that name an order of a sale which is not there; payments of no sale, in the shops of the sales, that are not to
-- be given back.
WITH found AS (
    SELECT p.sale_no, p.payment_no AS place,
           format('payment %s: is %s, of %s, which is not there', p.payment_no, p.state, p.order_id) AS text
      FROM payments p
     WHERE p.sale_no = ANY($1::int[])
       AND NOT EXISTS (SELECT FROM orders o WHERE o.sale_no = p.sale_no AND o.order_id = p.order_id)
    UNION ALL
    SELECT NULL, p.payment_no, format('payment %s: is %s, of no sale', p.payment_no, p.state)
      FROM payments p
     WHERE p.sale_no IS NULL AND p.shop_no IN (SELECT shop_no FROM sales WHERE sale_no = ANY($1))
       AND p.state NOT IN ('refund_due', 'refunded')
)
SELECT text, count(*) OVER () AS total,
       (SELECT array_agg(DISTINCT sale_no) FROM found WHERE sale_no IS NOT NULL) AS sales
  FROM found ORDER BY place LIMIT $2;
