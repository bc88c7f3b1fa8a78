-- What changed is told on. Whatever changes orders leaves a row of news a statement and sale; a follower reads them behind
-- a cursor, decides whose first order it was, and queues what a shop's webhook wants to hear.

-- Orders that one statement gave one status. Of new orders only where they are is kept, since a batch has up to thousands:
-- those of the sale from first_id to last_id that have these sequence numbers of the epoch and were not refused. Every change
-- of an order happens under the row lock of its shard, so the numbers of a shard's news are in the order of the commits.
CREATE TABLE order_news (
    shard     smallint NOT NULL,
    no        bigint GENERATED ALWAYS AS IDENTITY,
    sale_no   integer NOT NULL,
    status    text NOT NULL,
    orders    integer NOT NULL CHECK (orders >= 1),
    first_id  text COLLATE "C",
    last_id   text COLLATE "C",
    epoch     integer,
    first_seq bigint,
    last_seq  bigint,
    order_ids text[] COLLATE "C",                        -- all others: the orders, in no order
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, no),
    CHECK (num_nulls(first_id, last_id, epoch, first_seq, last_seq) = CASE WHEN order_ids IS NULL THEN 0 ELSE 5 END)
);

-- How far the follower has come; its row's lock makes followers of a shard come one after the other.
CREATE TABLE news_cursors (
    shard smallint PRIMARY KEY,
    no    bigint NOT NULL DEFAULT 0
);

-- The writer's batch also leaves news of what it confirmed: a row a sale, since a trigger that looks at every order would cost
-- the writer some hundredths of its time. What the batch refused is told by the trigger below.
CREATE OR REPLACE FUNCTION apply_orders(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_seqs bigint[], p_sales integer[], p_items smallint[], p_order_ids text[], p_viewers text[], p_keys text[],
    p_fingerprints text[], p_quantities integer[], p_prices bigint[], p_at_ms bigint[], p_extras text[],
    p_discounts bigint[], p_coupons integer[], p_claim_epochs integer[], p_claim_seqs bigint[])
RETURNS applied LANGUAGE plpgsql AS $$
DECLARE
    answer applied;
BEGIN
    answer := judge_orders(p_shard, p_epoch, p_from, p_to, p_token, p_seqs, p_sales, p_items, p_order_ids, p_viewers, p_keys,
                           p_fingerprints, p_quantities, p_prices, p_at_ms, p_extras, p_discounts, p_coupons, p_claim_epochs,
                           p_claim_seqs);
    WITH placed AS (
        SELECT o.*, p.pay_by_ms
          FROM (SELECT sale_no, min(order_id COLLATE "C") AS first_id, max(order_id COLLATE "C") AS last_id, count(*) AS orders
                  FROM unnest(p_sales, p_order_ids) AS u(sale_no, order_id) GROUP BY sale_no) o
          JOIN unnest(answer.sales, answer.pay_by_ms) AS p(sale_no, pay_by_ms) USING (sale_no)
    ), due AS (
        INSERT INTO deadlines (shard, pay_by, sale_no, first_id, last_id, orders)
        SELECT p_shard, to_timestamp((pay_by_ms + 1) / 1000.0), sale_no, first_id, last_id, orders FROM placed
    )
    INSERT INTO order_news (shard, sale_no, status, orders, first_id, last_id, epoch, first_seq, last_seq)
    SELECT p_shard, sale_no, 'confirmed', orders, first_id, last_id, p_epoch, p_from + 1, p_to FROM placed;
    RETURN answer;
END $$;

-- An order that the ledger did not take, whoever put it there; one of a sale that is none is told to nobody.
CREATE FUNCTION tell_refused_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO order_news (shard, sale_no, status, orders, order_ids)
    SELECT h.shard, NEW.sale_no, NEW.status, 1, ARRAY[NEW.order_id]
      FROM sales s JOIN shops h USING (shop_no) WHERE s.sale_no = NEW.sale_no;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_refused_order AFTER INSERT ON orders
    FOR EACH ROW WHEN (NEW.status = 'refused') EXECUTE FUNCTION tell_refused_order();

-- Functions that change orders by ranges forbid the planner what joins these two tables well.
CREATE FUNCTION tell_changed_orders() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = on SET enable_mergejoin = on AS $$
BEGIN
    INSERT INTO order_news (shard, sale_no, status, orders, order_ids)
    SELECT h.shard, n.sale_no, n.status, n.orders, n.order_ids
      FROM (SELECT x.sale_no, x.status, count(*) AS orders, array_agg(x.order_id) AS order_ids
              FROM new_orders x
              JOIN old_orders o ON o.sale_no = x.sale_no AND o.order_id = x.order_id AND o.status <> x.status
             GROUP BY x.sale_no, x.status) n
      JOIN sales s ON s.sale_no = n.sale_no JOIN shops h ON h.shop_no = s.shop_no;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_changed_orders AFTER UPDATE ON orders REFERENCING OLD TABLE AS old_orders NEW TABLE AS new_orders
    FOR EACH STATEMENT EXECUTE FUNCTION tell_changed_orders();

-- A viewer's first confirmed order in a shop, decided once, in the order in which the ledger took them.
CREATE TABLE customers (
    shop_no  integer NOT NULL,
    viewer   text COLLATE "C" NOT NULL,
    sale_no  integer NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (shop_no, viewer)
);
INSERT INTO customers (shop_no, viewer, sale_no, order_id)
    SELECT DISTINCT ON (s.shop_no, o.viewer) s.shop_no, o.viewer, o.sale_no, o.order_id
      FROM orders o JOIN sales s USING (sale_no)
     WHERE o.status <> 'refused' ORDER BY s.shop_no, o.viewer, o.epoch, o.seq;

-- Of how many viewers the first order in the shop is one of this sale.
CREATE TABLE sale_customers (
    sale_no   integer PRIMARY KEY,
    customers integer NOT NULL CHECK (customers >= 1)
);
INSERT INTO sale_customers SELECT sale_no, count(*) FROM customers GROUP BY sale_no;

-- Decides the first orders of a shard's news behind one number and up to another. Returns of how many viewers it was one.
CREATE FUNCTION decide_first_orders(p_shard smallint, p_after bigint, p_to bigint) RETURNS integer LANGUAGE plpgsql
-- A range is read through the primary key (OFFSET 0 keeps it so), however few rows the planner believes the table to have.
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    decided integer;
BEGIN
    WITH placed AS (
        SELECT s.shop_no, o.viewer, n.sale_no, o.order_id, o.epoch, o.seq
          FROM order_news n JOIN sales s ON s.sale_no = n.sale_no
         CROSS JOIN LATERAL (
               SELECT x.viewer, x.order_id, x.epoch, x.seq FROM orders x
                WHERE x.sale_no = n.sale_no AND x.order_id >= n.first_id AND x.order_id <= n.last_id
                  AND x.status <> 'refused' AND x.epoch = n.epoch AND x.seq >= n.first_seq AND x.seq <= n.last_seq
               OFFSET 0) o
         WHERE n.shard = p_shard AND n.no > p_after AND n.no <= p_to AND n.order_ids IS NULL
    ), firsts AS (
        INSERT INTO customers (shop_no, viewer, sale_no, order_id)
        SELECT DISTINCT ON (shop_no, viewer) shop_no, viewer, sale_no, order_id FROM placed
         ORDER BY shop_no, viewer, epoch, seq
        ON CONFLICT DO NOTHING
        RETURNING sale_no
    ), counted AS (
        INSERT INTO sale_customers AS c SELECT sale_no, count(*) FROM firsts GROUP BY sale_no
        ON CONFLICT (sale_no) DO UPDATE SET customers = c.customers + excluded.customers
    )
    SELECT count(*) INTO decided FROM firsts;
    RETURN decided;
END $$;

-- Where a shop wants to hear what, and with what it is signed. The secret before is signed with as well until its time.
CREATE TABLE webhooks (
    shop_no         integer PRIMARY KEY REFERENCES shops,
    url             text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    events          text[] NOT NULL,
    secret          text NOT NULL,
    previous_secret text,
    previous_until  timestamptz,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_success_at timestamptz,
    last_failure_at timestamptz,
    last_error      text,
    failures        bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),  -- since the last success
    CHECK ((previous_secret IS NULL) = (previous_until IS NULL))
) WITH (fillfactor = 50);

-- An event on its way. Delivered, it is gone; dead ones are kept for people. Those of an object go out by their number,
-- so an object is whatever has an order of its own.
CREATE TABLE deliveries (
    delivery_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_no     integer NOT NULL,
    msg_id      text COLLATE "C" NOT NULL,
    type        text NOT NULL,
    object      text COLLATE "C" NOT NULL CHECK (length(object) BETWEEN 1 AND 200),
    nonce       text COLLATE "C" NOT NULL DEFAULT '',    -- tells events of one type and object apart, where there are several
    body        text NOT NULL CHECK (octet_length(body) <= 20480),
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'dead')),
    attempts    integer NOT NULL DEFAULT 0,
    queued_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at     timestamptz NOT NULL,
    first_at    timestamptz,                             -- of the first attempt
    last_at     timestamptz,
    last_status integer,
    last_error  text,
    UNIQUE (shop_no, object, type, nonce)
) WITH (fillfactor = 80);
CREATE INDEX deliveries_due ON deliveries (shop_no, next_at, delivery_no) WHERE state = 'waiting';
CREATE INDEX deliveries_dead ON deliveries (shop_no, delivery_no) WHERE state = 'dead';
CREATE INDEX deliveries_oldest ON deliveries (queued_at) WHERE state = 'waiting';

-- The shops that are to be sent something now; asked ten times a second, so by the first of each shop's index.
CREATE FUNCTION shops_due() RETURNS SETOF integer LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
    SELECT w.shop_no FROM webhooks w
     WHERE (SELECT d.next_at FROM deliveries d WHERE d.shop_no = w.shop_no AND d.state = 'waiting'
             ORDER BY d.next_at LIMIT 1) <= statement_timestamp()
$$;

-- What a shop is to be sent now, but for given objects: of each object the first that waits.
CREATE FUNCTION due_events(p_shop_no integer, p_but text[], p_most integer)
RETURNS TABLE (delivery_no bigint, msg_id text, type text, object text, body text, attempts integer)
LANGUAGE sql STABLE
-- In the order of deliveries_due up to the bound and not all that wait sorted, and each object by the unique index (the
-- other one is not good for `state || ''`), whatever the planner believes of the table.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT d.delivery_no, d.msg_id, d.type, d.object, d.body, d.attempts
      FROM deliveries d
     WHERE d.shop_no = p_shop_no AND d.state = 'waiting' AND d.next_at <= statement_timestamp() AND d.object <> ALL (p_but)
       AND NOT EXISTS (SELECT FROM deliveries e WHERE e.shop_no = d.shop_no AND e.object = d.object
                          AND e.state || '' = 'waiting' AND e.delivery_no < d.delivery_no)
     ORDER BY d.next_at, d.delivery_no LIMIT p_most
$$;

-- The id of an event: the same for the same event, whoever makes it again.
CREATE FUNCTION event_id(p_shop_no integer, p_type text, p_object text, p_nonce text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'msg_' || translate(encode(substr(sha256(convert_to(
        p_shop_no || '|' || p_type || '|' || p_object || '|' || p_nonce, 'UTF8')), 1, 18), 'base64'), '+/', '-_')
$$;

-- Queues events, element by element in this order, for the shops that want to hear them. An event stands once; behind one
-- of its object that waits for another attempt it is not looked at before. Returns how many were queued.
CREATE FUNCTION queue_events(p_shops integer[], p_types text[], p_objects text[], p_nonces text[], p_bodies text[])
RETURNS integer LANGUAGE plpgsql
-- Each event's object is found by the unique index, however young the table and however many rows of the shop wait.
SET enable_seqscan = off AS $$
DECLARE
    queued integer;
BEGIN
    INSERT INTO deliveries (shop_no, msg_id, type, object, nonce, body, next_at)
    SELECT u.shop_no, event_id(u.shop_no, u.type, u.object, u.nonce), u.type, u.object, u.nonce, u.body,
           greatest(clock_timestamp(), (SELECT max(d.next_at) FROM deliveries d
                                         WHERE d.shop_no = u.shop_no AND d.object = u.object AND d.state || '' = 'waiting'))
      FROM unnest(p_shops, p_types, p_objects, p_nonces, p_bodies) WITH ORDINALITY
           AS u(shop_no, type, object, nonce, body, at)
      JOIN webhooks w ON w.shop_no = u.shop_no AND u.type = ANY(w.events)
     ORDER BY u.at
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS queued = ROW_COUNT;
    RETURN queued;
END $$;

-- Queues one event about an object in the caller's transaction; p_data is the object as HTTP shows it. Returns whether the
-- shop wants to hear it and has not been told of it in the queue.
CREATE FUNCTION queue_event(p_shop_no integer, p_type text, p_object text, p_data json, p_nonce text DEFAULT '')
RETURNS boolean LANGUAGE sql AS $$
    SELECT queue_events(ARRAY[p_shop_no], ARRAY[p_type], ARRAY[p_object], ARRAY[p_nonce],
        ARRAY[format('{"type":%s,"timestamp":"%s","data":%s}', to_json(p_type),
                     to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), p_data)]) = 1
$$;

-- What befell a room or a sale and is to be told; a row goes in the transaction that queues it.
CREATE TABLE object_news (
    no        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_no   integer NOT NULL,
    type      text NOT NULL CHECK (type IN ('room.started', 'room.ended', 'sale.opened', 'sale.closed')),
    object_no integer NOT NULL,                          -- of the room or the sale
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION tell_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO object_news (shop_no, type, object_no)
    VALUES (NEW.shop_no, CASE NEW.state WHEN 'live' THEN 'room.started' ELSE 'room.ended' END, NEW.room_no);
    RETURN NULL;
END $$;
CREATE TRIGGER tell_room AFTER UPDATE OF state ON rooms
    FOR EACH ROW WHEN (NEW.state <> OLD.state AND NEW.state IN ('live', 'ended')) EXECUTE FUNCTION tell_room();

-- Sales of which it is still to be told that they opened (opened: it was) or closed.
CREATE TABLE sales_to_tell (
    sale_no integer PRIMARY KEY,
    opened  boolean NOT NULL DEFAULT false
);
INSERT INTO sales_to_tell
    SELECT sale_no, opens_at_ms <= (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM sales
     WHERE hold <> 'closed' AND closes_at_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

CREATE FUNCTION watch_sale() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sales_to_tell (sale_no) VALUES (NEW.sale_no) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER watch_sale AFTER INSERT ON sales FOR EACH ROW EXECUTE FUNCTION watch_sale();

-- Notes what opened and what closed until now, by Valkey's time: whether by the clock or by an act of a host. Each is noted
-- once, a sale's opening before its closing. Returns how many were.
CREATE FUNCTION tell_sales(p_now_ms bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    opened integer;
    closed integer;
BEGIN
    WITH open_now AS (
        UPDATE sales_to_tell t SET opened = true FROM sales s
         WHERE s.sale_no = t.sale_no AND NOT t.opened AND s.opens_at_ms <= p_now_ms
           AND CASE s.hold WHEN 'active' THEN true WHEN 'paused' THEN false
                    -- Closed by a host before anybody looked: whether it sold until then.
                    ELSE EXISTS (SELECT FROM acts a WHERE a.sale_no = s.sale_no AND a.act = 'close' AND a.after IS NOT NULL
                                    AND a.before LIKE 'active %' AND a.at_ms >= s.opens_at_ms) END
        RETURNING s.sale_no, s.shop_no
    )
    INSERT INTO object_news (shop_no, type, object_no) SELECT shop_no, 'sale.opened', sale_no FROM open_now ORDER BY sale_no;
    GET DIAGNOSTICS opened = ROW_COUNT;
    WITH over AS (
        DELETE FROM sales_to_tell t USING sales s
         WHERE s.sale_no = t.sale_no AND (s.hold = 'closed' OR s.closes_at_ms <= p_now_ms)
        RETURNING s.sale_no, s.shop_no
    )
    INSERT INTO object_news (shop_no, type, object_no) SELECT shop_no, 'sale.closed', sale_no FROM over ORDER BY sale_no;
    GET DIAGNOSTICS closed = ROW_COUNT;
    RETURN opened + closed;
END $$;

-- What only one keeper does at a time, for as long as it says so.
CREATE TABLE keeper_leases (
    name   text PRIMARY KEY,
    holder text NOT NULL,
    until  timestamptz NOT NULL
);
