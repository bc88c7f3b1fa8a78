-- The queries of verdicts.py.

-- name: write
-- In the order of the sales, so that two keepers never wait for each other in a circle; of two audits the later one stands.
INSERT INTO sale_verdicts AS v (sale_no, audited_at, holds, broken, why_not)
SELECT u.sale_no, clock_timestamp() - make_interval(secs => $1::float8), u.holds, u.broken::jsonb, u.why_not
  FROM unnest($2::int[], $3::bool[], $4::text[], $5::text[]) AS u(sale_no, holds, broken, why_not)
 ORDER BY u.sale_no
    ON CONFLICT (sale_no) DO UPDATE SET audited_at = excluded.audited_at, holds = excluded.holds, broken = excluded.broken,
                                        why_not = excluded.why_not
     WHERE v.audited_at <= excluded.audited_at;

-- name: write_unmade
-- Of every sale that would have been audited; when it was audited last stays.
UPDATE sale_verdicts v SET holds = NULL, broken = '[]', why_not = $1
  FROM (SELECT w.sale_no FROM sale_verdicts w JOIN sales s USING (sale_no)
         WHERE s.retired_at IS NULL ORDER BY w.sale_no FOR UPDATE OF w) AS running
 WHERE v.sale_no = running.sale_no;

-- name: moment
-- A sale with its items, its shard and its verdict, in one snapshot.
SELECT s.sale, h.shard, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms,
       d.epoch, d.last_seq, d.outbox_no, num_nonnulls(d.reopen, d.wants) > 0 AS rebuilding,
       s.retired_at IS NOT NULL AS retired,
       (SELECT json_agg(json_build_array(item_no, sku, stock, held, sold) ORDER BY item_no)
          FROM sale_items WHERE sale_no = s.sale_no)::text AS items,
       v.sale_no IS NOT NULL AS audited, (extract(epoch FROM v.audited_at) * 1000)::bigint AS audited_at_ms,
       v.holds, v.broken::text AS broken, v.why_not
  FROM sales s JOIN shops h USING (shop_no) JOIN shards d USING (shard) LEFT JOIN sale_verdicts v USING (sale_no)
 WHERE s.sale_no = $1;
