-- The queries of backup.py. `adopt` is sent by psql behind the dump, in the transaction that restores it.

-- name: is_there
SELECT to_regclass('schema_migrations') IS NOT NULL;

-- name: facts
SELECT encode(sha256(id_key), 'hex') AS installation, current_schema() AS schema,
       (SELECT max(version) FROM schema_migrations) AS schema_version,
       (SELECT count(*) FROM shops) AS shops, (SELECT count(*) FROM sales) AS sales, (SELECT count(*) FROM orders) AS orders,
       clock_timestamp() AS made_at, current_setting('server_version_num')::int / 10000 AS server_major
  FROM installation;

-- name: shards
SELECT shard, epoch, last_seq FROM shards ORDER BY shard;

-- name: tables
-- What there is in the schema, whoever made it.
SELECT c.relname AS name FROM pg_class c
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1;

-- name: connected
-- Processes of a gateway that use this ledger, but for the one that asks.
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'peakgate' AND pid <> pg_backend_pid();

-- name: leased
SELECT count(*) FROM shards WHERE lease_until > clock_timestamp();

-- name: end_others
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'peakgate' AND pid <> pg_backend_pid();

-- name: wipe
-- Everything in the schema, so that nothing of the ledger that is replaced meets what is restored.
DO $$
DECLARE
    o record;
BEGIN
    FOR o IN SELECT c.oid::regclass::text AS name, c.relkind AS kind FROM pg_class c
              WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') LOOP
        EXECUTE format('DROP %s IF EXISTS %s CASCADE',
                       CASE o.kind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, o.name);
    END LOOP;
    FOR o IN SELECT p.oid::regprocedure::text AS name FROM pg_proc p
              WHERE p.pronamespace = current_schema()::regnamespace
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') LOOP
        EXECUTE format('DROP ROUTINE IF EXISTS %s CASCADE', o.name);
    END LOOP;
    FOR o IN SELECT t.oid::regtype::text AS name FROM pg_type t
              WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype IN ('c', 'e', 'd')
                AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e') LOOP
        EXECUTE format('DROP TYPE IF EXISTS %s CASCADE', o.name);
    END LOOP;
END $$;

-- name: adopt
-- Whatever Valkey has, it is older or newer than this ledger: every shard is recounted before it sells. Nobody holds a
-- lease or goes on with a rebuild of before. Numbers that were given after the backup are not given again. Running holds
-- get time, because payments that were reported after the backup have to be reported again.
UPDATE shards SET wants = 'restore', reopen = NULL, lease_holder = NULL, lease_until = '-infinity',
       -- Past every token of before, also after an earlier restore of the same backup.
       load_token = load_token + extract(epoch FROM clock_timestamp())::bigint,
       lease_token = lease_token + extract(epoch FROM clock_timestamp())::bigint;
SELECT setval(pg_get_serial_sequence('shops', 'shop_no'), (SELECT coalesce(max(shop_no), 0) + 100 FROM shops));
SELECT setval(pg_get_serial_sequence('rooms', 'room_no'), (SELECT coalesce(max(room_no), 0) + 10000 FROM rooms));
SELECT setval(pg_get_serial_sequence('sales', 'sale_no'), (SELECT coalesce(max(sale_no), 0) + 10000 FROM sales));
SELECT setval(pg_get_serial_sequence('coupons', 'coupon_no'), (SELECT coalesce(max(coupon_no), 0) + 10000 FROM coupons));
SELECT setval(pg_get_serial_sequence('payments', 'payment_no'),
              (SELECT coalesce(max(payment_no), 0) + 1000000 FROM payments));
DELETE FROM clock_notes;
WITH until AS MATERIALIZED (
    SELECT clock_timestamp() + make_interval(secs => :grace_s) AS at
), held AS (
    UPDATE orders o SET pay_by = until.at FROM until WHERE o.status = 'confirmed' AND o.pay_by < until.at
)
UPDATE deadlines d SET pay_by = until.at + interval '2 milliseconds' FROM until WHERE d.pay_by < until.at;
