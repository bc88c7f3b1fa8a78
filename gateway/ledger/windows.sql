-- The queries of windows.py.

-- name: coupons_between
SELECT coupon_no, claim_from_ms AS at_ms FROM coupons
 WHERE room_no IS NOT NULL AND claim_from_ms BETWEEN $1 AND $2
 ORDER BY at_ms, coupon_no;

-- name: between
-- Each instant has an index of its own; a sale that a host closed has none any more.
SELECT sale_no, opens_at_ms AS at_ms, 0 AS item_no FROM sales
 WHERE room_no IS NOT NULL AND opens_at_ms BETWEEN $1 AND $2 AND hold <> 'closed'
UNION ALL
SELECT sale_no, closes_at_ms, 0 FROM sales
 WHERE room_no IS NOT NULL AND closes_at_ms BETWEEN $1 AND $2 AND hold <> 'closed'
UNION ALL
SELECT i.sale_no, (step ->> 0)::bigint, i.item_no
  FROM sales s
  JOIN sale_items i USING (sale_no)
 CROSS JOIN LATERAL jsonb_array_elements(i.prices) AS step
 WHERE s.room_no IS NOT NULL AND s.closes_at_ms >= $1 AND s.hold <> 'closed' AND i.prices IS NOT NULL
   AND (step ->> 0)::bigint BETWEEN $1 AND $2
ORDER BY at_ms, sale_no, item_no;
