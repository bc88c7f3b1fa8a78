-- The queries of webhooks.py.

-- name: find
-- Counted up to $2.
SELECT w.url, w.events, w.failures, w.last_error,
       (extract(epoch FROM w.created_at) * 1000)::bigint AS created_at_ms,
       CASE WHEN w.previous_until > clock_timestamp() THEN (extract(epoch FROM w.previous_until) * 1000)::bigint END
           AS rotating_until_ms,
       (extract(epoch FROM w.last_success_at) * 1000)::bigint AS last_success_at_ms,
       (extract(epoch FROM w.last_failure_at) * 1000)::bigint AS last_failure_at_ms,
       (SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.shop_no = w.shop_no AND d.state = 'waiting' LIMIT $2) x)
           AS waiting,
       (SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.shop_no = w.shop_no AND d.state = 'dead' LIMIT $2) x) AS dead
  FROM webhooks w JOIN shops h USING (shop_no) WHERE h.shop = $1;

-- name: endpoint
SELECT w.shop_no, h.shop, w.url, w.secret, CASE WHEN w.previous_until > clock_timestamp() THEN w.previous_secret END AS before
  FROM webhooks w JOIN shops h USING (shop_no) WHERE h.shop = $1;

-- name: put
-- Whether the shop had none: then the secret is the given one.
INSERT INTO webhooks AS w (shop_no, url, events, secret) SELECT shop_no, $2, $3, $4 FROM shops WHERE shop = $1
ON CONFLICT (shop_no) DO UPDATE SET url = excluded.url, events = excluded.events
RETURNING w.secret = $4 AS made;

-- name: rotate
UPDATE webhooks w SET previous_secret = w.secret, previous_until = clock_timestamp() + make_interval(secs => $3), secret = $2
  FROM shops h WHERE h.shop_no = w.shop_no AND h.shop = $1
RETURNING true;

-- name: dead
-- The newest first, behind a given one; of one shop or of all.
SELECT d.delivery_no, h.shop, d.msg_id, d.type, d.object, d.body, d.attempts, d.queued_at, d.last_at, d.last_status,
       d.last_error
  FROM deliveries d JOIN shops h USING (shop_no)
 WHERE d.state = 'dead' AND ($1::text IS NULL OR h.shop = $1) AND ($2::bigint IS NULL OR d.delivery_no < $2)
 ORDER BY d.delivery_no DESC LIMIT $3;

-- name: replay
-- From the first attempt on anew; one that waits already is left as it is. The unique key does not begin with the id.
UPDATE deliveries d SET state = 'waiting', attempts = 0, first_at = NULL, next_at = clock_timestamp()
  FROM shops h
 WHERE h.shop_no = d.shop_no AND h.shop = $1 AND d.state = 'dead' AND d.msg_id = $2
RETURNING true;

-- name: waits
SELECT EXISTS (SELECT FROM deliveries d JOIN shops h USING (shop_no)
                WHERE h.shop = $1 AND d.msg_id = $2 AND d.state = 'waiting');

-- name: replay_all
WITH oldest AS (
    SELECT d.delivery_no FROM deliveries d JOIN shops h USING (shop_no)
     WHERE h.shop = $1 AND d.state = 'dead' ORDER BY d.delivery_no LIMIT $2
)
UPDATE deliveries d SET state = 'waiting', attempts = 0, first_at = NULL, next_at = clock_timestamp()
  FROM oldest WHERE d.delivery_no = oldest.delivery_no
RETURNING true;

-- name: endpoints_due
SELECT w.shop_no, h.shop, w.url, w.secret, CASE WHEN w.previous_until > clock_timestamp() THEN w.previous_secret END AS before
  FROM shops_due() AS due(shop_no) JOIN webhooks w USING (shop_no) JOIN shops h USING (shop_no);

-- name: due
SELECT * FROM due_events($1, $2, $3);

-- name: delivered
DELETE FROM deliveries WHERE delivery_no = ANY ($1::bigint[]);

-- name: failed
-- Only the attempt that was made: another sender may have made the next one. Those given up are told by their type.
UPDATE deliveries d
   SET attempts = d.attempts + 1, first_at = coalesce(d.first_at, clock_timestamp()), last_at = clock_timestamp(),
       last_status = u.status, last_error = u.error, next_at = clock_timestamp() + make_interval(secs => u.again_in_s),
       state = CASE WHEN d.first_at <= clock_timestamp() - make_interval(secs => $6) THEN 'dead' ELSE 'waiting' END
  FROM unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::float8[]) AS u(delivery_no, attempts, status, error, again_in_s)
 WHERE d.delivery_no = u.delivery_no AND d.attempts = u.attempts AND d.state = 'waiting'
RETURNING d.delivery_no, d.type, d.state = 'dead' AS died;

-- name: put_behind
-- What stands behind a failed event of its object has to wait as long.
UPDATE deliveries d SET next_at = greatest(d.next_at, f.next_at)
  FROM deliveries f
 WHERE f.delivery_no = ANY ($1::bigint[]) AND f.state = 'waiting'
   AND d.shop_no = f.shop_no AND d.object = f.object AND d.state = 'waiting' AND d.delivery_no > f.delivery_no;

-- name: note
-- How a shop's endpoint does. Failures count from the last success on.
UPDATE webhooks w
   SET last_success_at = CASE WHEN u.delivered > 0 THEN clock_timestamp() ELSE w.last_success_at END,
       last_failure_at = CASE WHEN u.failed > 0 THEN clock_timestamp() ELSE w.last_failure_at END,
       last_error = CASE WHEN u.failed > 0 THEN u.error WHEN u.delivered > 0 THEN NULL ELSE w.last_error END,
       failures = CASE WHEN u.delivered > 0 THEN 0 ELSE w.failures END + u.failed
  FROM unnest($1::int[], $2::int[], $3::int[], $4::text[]) AS u(shop_no, delivered, failed, error)
 WHERE w.shop_no = u.shop_no;

-- name: hurry
-- An endpoint that was away is back: nothing waits for its time. A bounded part, what would be due first.
UPDATE deliveries d SET next_at = clock_timestamp()
  FROM (SELECT delivery_no FROM deliveries
         WHERE shop_no = $1 AND state = 'waiting' AND next_at > statement_timestamp()
         ORDER BY next_at, delivery_no LIMIT $2) later
 WHERE d.delivery_no = later.delivery_no
RETURNING true;

-- name: ages
-- How many events wait and for how many seconds the oldest has; how many are dead. Counted up to $1.
SELECT (SELECT count(*) FROM (SELECT FROM deliveries WHERE state = 'waiting' LIMIT $1) x) AS waiting,
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(queued_at)), 0)::float8
          FROM deliveries WHERE state = 'waiting') AS oldest_s,
       (SELECT count(*) FROM (SELECT FROM deliveries WHERE state = 'dead' LIMIT $1) x) AS dead;

-- name: forget_dead
-- A bounded part.
DELETE FROM deliveries d USING (
       SELECT delivery_no FROM deliveries
        WHERE state = 'dead' AND last_at < clock_timestamp() - make_interval(secs => $1) LIMIT $2) old
 WHERE d.delivery_no = old.delivery_no
RETURNING true;

-- name: take_lease
INSERT INTO keeper_leases AS l (name, holder, until) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
 WHERE l.holder = excluded.holder OR l.until < clock_timestamp()
RETURNING true;

-- name: give_lease
DELETE FROM keeper_leases WHERE name = $1 AND holder = $2;
