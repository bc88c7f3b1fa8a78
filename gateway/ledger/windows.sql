-- The queries of windows.py.

-- name: between
-- Each instant has an index of its own; a sale that a host closed has none any more.
SELECT sale_no, opens_at_ms AS at_ms FROM sales
 WHERE room_no IS NOT NULL AND opens_at_ms BETWEEN $1 AND $2 AND hold <> 'closed'
UNION ALL
SELECT sale_no, closes_at_ms FROM sales
 WHERE room_no IS NOT NULL AND closes_at_ms BETWEEN $1 AND $2 AND hold <> 'closed'
ORDER BY at_ms, sale_no;
