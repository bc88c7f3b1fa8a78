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
-- What is bound to a sale, and those of its shop that are bound to none and not over.
SELECT c.coupon_no, c.claimed, c.spent_minor, c.loaded_epoch IS NOT NULL AND c.forgotten_at IS NULL AS in_valkey
  FROM coupons c
 WHERE c.coupon_no IN (SELECT coupon_no FROM coupon_sales WHERE sale_no = $1)
    OR (c.shop_no = (SELECT shop_no FROM sales WHERE sale_no = $1) AND c.retired_at IS NULL
        AND NOT EXISTS (SELECT FROM coupon_sales s WHERE s.coupon_no = c.coupon_no))
 ORDER BY c.coupon_no DESC
 LIMIT 50;
