-- The queries of preflight.py.

-- name: shard
SELECT epoch, last_seq, lease_until > clock_timestamp() AS has_writer, coalesce(wants, reopen) AS wants,
       extract(epoch FROM clock_timestamp())::float8 AS now_s
  FROM shards WHERE shard = $1;

-- name: checkpoint
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn)::bigint AS log_bytes,
       extract(epoch FROM clock_timestamp() - checkpoint_time)::float8 AS ago_s
  FROM pg_control_checkpoint();

-- name: places
-- Only what the role may see.
SELECT (SELECT pg_size_bytes(setting || unit) FROM pg_settings WHERE name = 'max_wal_size') AS log_most_bytes,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS folder;

-- name: coupons
-- What is bound to a sale, and those of its shop that are bound to none, have its currency and are not over when it opens: of
-- the others nobody expects that they are of use.
SELECT c.coupon_no, c.claimed, c.spent_minor, c.loaded_epoch IS NOT NULL AND c.forgotten_at IS NULL AS in_valkey
  FROM sales s JOIN coupons c ON c.shop_no = s.shop_no
 WHERE s.sale_no = $1
   AND (EXISTS (SELECT FROM coupon_sales b WHERE b.coupon_no = c.coupon_no AND b.sale_no = $1)
        OR c.retired_at IS NULL AND c.currency = s.currency
           AND c.valid_until_ms > greatest(s.opens_at_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
           AND NOT EXISTS (SELECT FROM coupon_sales b WHERE b.coupon_no = c.coupon_no))
 ORDER BY c.coupon_no DESC
 LIMIT 50;
