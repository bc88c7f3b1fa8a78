-- What becomes of a confirmed order: paid, cancelled, expired, back to life by late money, refunded. Every change happens
-- under the row lock of the order's shard, which is the first thing each function takes: the writer's batches, payments
-- and the sweep of deadlines come one after the other, so nothing races inside the ledger. Statements compare the status
-- all the same.

ALTER TABLE acts DROP CONSTRAINT acts_act_check;
ALTER TABLE acts ADD CONSTRAINT acts_act_check CHECK (act IN ('open', 'pause', 'resume', 'close', 'stock', 'price'));

-- What Valkey is to do with the units of a row:
--   refuse   the ledger did not take the order: units back to sell, not held, the key free
--   release  a confirmed order ended unpaid: units back to sell, not held; the key still answers
--   paid     a confirmed order was paid: not held any more
--   return   units that were not held come back: of a paid order that was refunded, of a revival the ledger did not take
ALTER TABLE outbox ADD COLUMN kind text NOT NULL DEFAULT 'refuse' CHECK (kind IN ('refuse', 'release', 'paid', 'return'));

-- When orders must be paid: a row a batch and sale, since all its orders were confirmed in one moment. So an order costs no
-- index on its deadline. The orders are those from first_id to last_id whose own pay_by has passed.
CREATE TABLE deadlines (
    shard    smallint NOT NULL REFERENCES shards,
    pay_by   timestamptz NOT NULL,
    sale_no  integer NOT NULL,
    first_id text COLLATE "C" NOT NULL,
    last_id  text COLLATE "C" NOT NULL,
    orders   integer NOT NULL,                           -- at most so many end with it
    PRIMARY KEY (shard, pay_by, sale_no, first_id)
);
INSERT INTO deadlines
    SELECT h.shard, o.pay_by, o.sale_no, min(o.order_id), max(o.order_id), count(*)
      FROM orders o JOIN sales s USING (sale_no) JOIN shops h USING (shop_no)
     WHERE o.status = 'confirmed' GROUP BY h.shard, o.pay_by, o.sale_no;

-- Money as providers and shops reported it, each transaction once. An order has at most one that counts; all other money is
-- kept until it was given back. A payment of an order that is not there keeps the id it named and has no sale.
CREATE TABLE payments (
    payment_no   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_no      integer NOT NULL REFERENCES shops,
    provider     text COLLATE "C" NOT NULL CHECK (provider ~ '^[a-z0-9_-]{1,32}$'),
    txn          text COLLATE "C" NOT NULL CHECK (length(txn) BETWEEN 1 AND 128),
    order_id     text COLLATE "C" NOT NULL CHECK (length(order_id) BETWEEN 1 AND 64),
    sale_no      integer,
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    paid_at      timestamptz NOT NULL,                   -- as the provider says
    received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    state        text NOT NULL CHECK (state IN ('waiting', 'applied', 'refund_due', 'refunded')),
    reason       text,                                   -- why the order could not take it
    refunded_at  timestamptz,
    UNIQUE (shop_no, provider, txn),
    CHECK ((state = 'refunded') = (refunded_at IS NOT NULL)),
    CHECK (state NOT IN ('waiting', 'applied') OR (sale_no IS NOT NULL AND reason IS NULL))
);
-- waiting: late money, while Valkey is asked whether its order can come back to life.
CREATE UNIQUE INDEX payments_one_an_order ON payments (sale_no, order_id) WHERE state IN ('waiting', 'applied');
CREATE INDEX payments_by_order ON payments (order_id);
CREATE INDEX payments_waiting ON payments (payment_no) WHERE state = 'waiting';
CREATE INDEX payments_refund_due ON payments (shop_no, payment_no) WHERE state = 'refund_due';

-- Entries of the stream by which late money brought an order back (or, revived = false, the ledger did not take it).
CREATE TABLE revivals (
    shard      smallint NOT NULL REFERENCES shards,
    epoch      integer NOT NULL,
    seq        bigint NOT NULL CHECK (seq >= 1),
    payment_no bigint NOT NULL,
    sale_no    integer NOT NULL,
    revived    boolean NOT NULL,
    PRIMARY KEY (shard, epoch, seq)
);

-- A payment that was begun at a provider. One an order: asked again, it goes on.
CREATE TABLE checkouts (
    sale_no    integer NOT NULL,
    order_id   text COLLATE "C" NOT NULL,
    shop_no    integer NOT NULL REFERENCES shops,
    provider   text COLLATE "C" NOT NULL,
    checkout   text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (sale_no, order_id)
);

-- With what a provider signs its notices to a shop; the one before stays valid while secrets are changed.
CREATE TABLE providers (
    shop_no         integer NOT NULL REFERENCES shops,
    provider        text COLLATE "C" NOT NULL CHECK (provider ~ '^[a-z0-9_-]{1,32}$'),
    secret          text NOT NULL,
    previous_secret text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_no, provider)
);

-- An order whose units move.
CREATE TYPE moved_order AS (
    sale_no integer, item_no smallint, order_id text, viewer text, key text, epoch integer, seq bigint, quantity integer);

-- Moves the units of orders whose status was changed already, and tells Valkey of them through the outbox. The caller holds
-- the shard's row lock.
CREATE FUNCTION move_units(p_shard smallint, p_kind text, p_orders moved_order[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last_no bigint;
BEGIN
    IF coalesce(cardinality(p_orders), 0) = 0 THEN RETURN; END IF;
    UPDATE sale_items i
       SET held = i.held - CASE WHEN p_kind IN ('release', 'paid') THEN m.units ELSE 0 END,
           sold = i.sold + CASE p_kind WHEN 'paid' THEN m.units WHEN 'return' THEN -m.units ELSE 0 END
      FROM (SELECT sale_no, item_no, sum(quantity)::integer AS units FROM unnest(p_orders)
             GROUP BY sale_no, item_no ORDER BY sale_no, item_no) m
     WHERE i.sale_no = m.sale_no AND i.item_no = m.item_no;
    IF p_kind <> 'paid' THEN
        UPDATE holdings h SET units = h.units - m.units
          FROM (SELECT viewer, sale_no, item_no, sum(quantity)::integer AS units FROM unnest(p_orders)
                 GROUP BY viewer, sale_no, item_no) m
         WHERE h.viewer = m.viewer AND h.sale_no = m.sale_no AND h.item_no = m.item_no;
    END IF;
    UPDATE shards SET outbox_no = outbox_no + cardinality(p_orders) WHERE shard = p_shard RETURNING outbox_no INTO last_no;
    INSERT INTO outbox (shard, no, sale_no, item_no, viewer, key, epoch, seq, quantity, kind)
    SELECT p_shard, last_no - cardinality(p_orders) + m.at, m.sale_no, m.item_no, m.viewer, m.key, m.epoch, m.seq, m.quantity,
           p_kind
      FROM unnest(p_orders) WITH ORDINALITY AS m(sale_no, item_no, order_id, viewer, key, epoch, seq, quantity, at);
END $$;

-- The writer's batch also notes when its orders must be paid. The note is due a millisecond after the last of them, which
-- is finer than the answer's milliseconds.
ALTER FUNCTION apply_orders(smallint, integer, bigint, bigint, bigint, bigint[], integer[], smallint[], text[], text[], text[],
                            text[], integer[], bigint[], bigint[], text[]) RENAME TO judge_orders;

CREATE FUNCTION apply_orders(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_seqs bigint[], p_sales integer[], p_items smallint[], p_order_ids text[], p_viewers text[], p_keys text[],
    p_fingerprints text[], p_quantities integer[], p_prices bigint[], p_at_ms bigint[], p_extras text[])
RETURNS applied LANGUAGE plpgsql AS $$
DECLARE
    answer applied;
BEGIN
    answer := judge_orders(p_shard, p_epoch, p_from, p_to, p_token, p_seqs, p_sales, p_items, p_order_ids, p_viewers, p_keys,
                           p_fingerprints, p_quantities, p_prices, p_at_ms, p_extras);
    INSERT INTO deadlines (shard, pay_by, sale_no, first_id, last_id, orders)
    SELECT p_shard, to_timestamp((p.pay_by_ms + 1) / 1000.0), p.sale_no, o.first_id, o.last_id, o.orders
      FROM (SELECT sale_no, min(order_id COLLATE "C") AS first_id, max(order_id COLLATE "C") AS last_id, count(*) AS orders
              FROM unnest(p_sales, p_order_ids) AS u(sale_no, order_id) GROUP BY sale_no) o
      JOIN unnest(answer.sales, answer.pay_by_ms) AS p(sale_no, pay_by_ms) USING (sale_no);
    RETURN answer;
END $$;

-- Ends orders whose deadline has passed, about p_most of them (a deadline's orders end together); those paid meanwhile are
-- left alone. One row an order ended.
CREATE FUNCTION expire_orders(p_shard smallint, p_most integer)
RETURNS TABLE (shop text, viewer text, order_id text, sale_no integer) LANGUAGE plpgsql
-- A range is read through the primary key, however few rows the planner believes the table to have.
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    now_is timestamptz;
    ended  moved_order[];
BEGIN
    PERFORM FROM shards s WHERE s.shard = p_shard FOR UPDATE;
    now_is := clock_timestamp();
    WITH due AS (
        DELETE FROM deadlines d
         USING (SELECT f.*, sum(f.orders) OVER (ORDER BY f.pay_by, f.sale_no, f.first_id) - f.orders AS before
                  FROM (SELECT * FROM deadlines x WHERE x.shard = p_shard AND x.pay_by <= now_is
                         ORDER BY x.pay_by, x.sale_no, x.first_id LIMIT p_most) f) n
         WHERE n.before < p_most AND d.shard = n.shard AND d.pay_by = n.pay_by AND d.sale_no = n.sale_no AND d.first_id = n.first_id
        RETURNING d.sale_no, d.first_id, d.last_id
    ), expired AS (
        UPDATE orders o SET status = 'expired' FROM due
         WHERE o.sale_no = due.sale_no AND o.order_id >= due.first_id AND o.order_id <= due.last_id
           AND o.status = 'confirmed' AND o.pay_by <= now_is
        RETURNING o.sale_no, o.item_no, o.order_id, o.viewer, o.key, o.epoch, o.seq, o.quantity
    )
    SELECT array_agg((e.sale_no, e.item_no, e.order_id, e.viewer, e.key, e.epoch, e.seq, e.quantity)::moved_order)
      INTO ended FROM expired e;
    PERFORM move_units(p_shard, 'release', ended);
    RETURN QUERY SELECT h.shop, m.viewer, m.order_id, m.sale_no
      FROM unnest(ended) m JOIN sales s ON s.sale_no = m.sale_no JOIN shops h ON h.shop_no = s.shop_no;
END $$;

-- Brings an expired order back with the payment that waits for it, if the ledger still has a unit and room under the
-- viewer's limit; else the money is to be refunded. Returns whether it came back. The caller holds the shard's row lock and
-- sees to Valkey.
CREATE FUNCTION revive_order(p_payment_no bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    p   payments%ROWTYPE;
    o   orders%ROWTYPE;
    why text;
BEGIN
    SELECT * INTO p FROM payments WHERE payment_no = p_payment_no AND state = 'waiting' FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    SELECT * INTO o FROM orders WHERE sale_no = p.sale_no AND order_id = p.order_id;
    IF o.status <> 'expired' THEN
        why := o.status;
    ELSIF o.quantity + coalesce((SELECT units FROM holdings h WHERE h.viewer = o.viewer AND h.sale_no = o.sale_no
                                    AND h.item_no = o.item_no), 0)
          > (SELECT limit_per_viewer FROM sale_items i WHERE i.sale_no = o.sale_no AND i.item_no = o.item_no) THEN
        why := 'limit';
    ELSE
        UPDATE sale_items SET sold = sold + o.quantity
         WHERE sale_no = o.sale_no AND item_no = o.item_no AND held + sold + o.quantity <= stock;
        IF NOT FOUND THEN why := 'stock'; END IF;
    END IF;
    IF why IS NOT NULL THEN
        PERFORM refund_late(p_payment_no, why);
        RETURN false;
    END IF;
    UPDATE holdings SET units = units + o.quantity
     WHERE viewer = o.viewer AND sale_no = o.sale_no AND item_no = o.item_no;
    UPDATE orders SET status = 'paid' WHERE sale_no = o.sale_no AND order_id = o.order_id;
    UPDATE payments SET state = 'applied' WHERE payment_no = p_payment_no;
    RETURN true;
END $$;

-- Late money whose order cannot come back. Changes nothing when the payment does not wait any more.
CREATE FUNCTION refund_late(p_payment_no bigint, p_reason text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    p payments%ROWTYPE;
BEGIN
    UPDATE payments SET state = 'refund_due', reason = p_reason WHERE payment_no = p_payment_no AND state = 'waiting'
    RETURNING * INTO p;
    IF NOT FOUND THEN RETURN false; END IF;
    UPDATE orders SET status = 'refund_due' WHERE sale_no = p.sale_no AND order_id = p.order_id AND status = 'expired';
    RETURN true;
END $$;

-- Applies one revival of the stream. Returns the order's status. Where the ledger does not take it, the units that Valkey
-- took for it come back.
CREATE FUNCTION apply_late(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_sale integer, p_payment_no bigint, p_item smallint, p_viewer text, p_order_id text, p_quantity integer)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    came_back boolean;
    last_no   bigint;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    came_back := revive_order(p_payment_no);
    INSERT INTO revivals VALUES (p_shard, p_epoch, p_to, p_payment_no, p_sale, came_back);
    IF NOT came_back THEN
        UPDATE shards SET outbox_no = outbox_no + 1 WHERE shard = p_shard RETURNING outbox_no INTO last_no;
        INSERT INTO outbox (shard, no, sale_no, item_no, viewer, key, epoch, seq, quantity, kind)
        VALUES (p_shard, last_no, p_sale, p_item, p_viewer, NULL, p_epoch, p_to, p_quantity, 'return');
    END IF;
    RETURN (SELECT status FROM orders WHERE sale_no = p_sale AND order_id = p_order_id);
END $$;

-- Settles late money without Valkey: it says that the order cannot come back (p_reason), or does not have the sale any more
-- (p_reason NULL: the ledger decides). Returns the order's status, NULL when the payment does not wait any more.
CREATE FUNCTION settle_late(p_shard smallint, p_payment_no bigint, p_reason text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    settled boolean;
BEGIN
    PERFORM FROM shards WHERE shard = p_shard FOR UPDATE;
    IF NOT EXISTS (SELECT FROM payments WHERE payment_no = p_payment_no AND state = 'waiting') THEN RETURN NULL; END IF;
    IF p_reason IS NULL THEN
        settled := revive_order(p_payment_no);
    ELSE
        settled := refund_late(p_payment_no, p_reason);
    END IF;
    RETURN (SELECT o.status FROM payments p JOIN orders o ON o.sale_no = p.sale_no AND o.order_id = p.order_id
             WHERE p.payment_no = p_payment_no);
END $$;

-- Applies what was asked of single orders of a shard's shops, each in its turn. p_acts is an array of objects:
--   do        pay | refund | cancel
--   shop_no, order, sale (null: of no order of this shop), amount, currency, provider, txn, paid_at_ms
--   keep      pay: money the order cannot take was received all the same and is kept as refund_due (a provider's notice);
--             else such a report is answered and changes nothing where its amount is wrong or there is no such order
--   viewer    cancel: whose order it must be
--   caller, key, fingerprint  the idempotency key of the report, or null
-- Words: done | replayed | key_reused | txn_reused | not_found | amount_mismatch | no_payment | waiting | conflict
-- `changed` says that the order's status is a new one.
CREATE FUNCTION settle(p_shard smallint, p_acts jsonb)
RETURNS TABLE (place integer, word text, shop text, viewer text, order_id text, status text, changed boolean)
LANGUAGE plpgsql AS $$
DECLARE
    a        record;
    o        orders%ROWTYPE;
    s        sales%ROWTYPE;
    p        payments%ROWTYPE;
    e        effects%ROWTYPE;
    found_it boolean;
    became   text;
    kept_as  text;
    why      text;
    paid     moved_order[] := '{}';
    ended    moved_order[] := '{}';
    back     moved_order[] := '{}';
    this_one moved_order;
BEGIN
    PERFORM FROM shards h WHERE h.shard = p_shard FOR UPDATE;
    FOR a IN SELECT * FROM jsonb_to_recordset(p_acts) AS x(
        place integer, "do" text, shop_no integer, "order" text, sale integer, amount bigint, currency text, provider text,
        txn text, paid_at_ms bigint, keep boolean, viewer text, caller text, key text, fingerprint text)
        ORDER BY x.place
    LOOP
        place := a.place; word := NULL; became := NULL;
        o := NULL; s := NULL;
        SELECT * INTO s FROM sales x WHERE x.sale_no = a.sale AND x.shop_no = a.shop_no;
        SELECT * INTO o FROM orders x WHERE x.sale_no = s.sale_no AND x.order_id = a."order";
        found_it := FOUND;
        SELECT x.shop INTO shop FROM shops x WHERE x.shop_no = a.shop_no;
        this_one := (o.sale_no, o.item_no, o.order_id, o.viewer, o.key, o.epoch, o.seq, o.quantity)::moved_order;
        IF a.key IS NOT NULL THEN
            SELECT * INTO e FROM effects x
             WHERE x.shop_no = a.shop_no AND x.caller = a.caller AND x.kind = a."do" AND x.key = a.key;
            IF FOUND THEN word := CASE WHEN e.fingerprint = a.fingerprint THEN 'replayed' ELSE 'key_reused' END; END IF;
        END IF;

        IF word IS NOT NULL THEN
            NULL;
        ELSIF a."do" = 'cancel' THEN
            IF NOT found_it OR o.viewer <> a.viewer THEN word := 'not_found';
            ELSIF o.status = 'confirmed' THEN
                word := 'done'; became := 'cancelled'; ended := ended || this_one;
            ELSIF o.status = 'cancelled' THEN word := 'done';
            ELSE word := 'conflict';
            END IF;

        ELSIF a."do" = 'pay' THEN
            SELECT * INTO p FROM payments x
             WHERE x.shop_no = a.shop_no AND x.provider = a.provider AND x.txn = a.txn;
            IF FOUND AND p.reason = 'refund_first' AND p.order_id = a."order" AND p.amount_minor <> a.amount THEN
                -- A part was given back before the whole was told of: people have to look, and the money is not forgotten.
                word := 'done';
                UPDATE payments x SET state = 'refund_due', reason = 'refunded_in_part', amount_minor = a.amount,
                       refunded_at = NULL
                 WHERE x.payment_no = p.payment_no;
            ELSIF FOUND THEN
                word := CASE WHEN p.order_id = a."order" AND p.amount_minor = a.amount THEN 'replayed' ELSE 'txn_reused' END;
            ELSIF NOT found_it AND NOT a.keep THEN word := 'not_found';
            ELSIF found_it AND NOT a.keep AND a.amount <> o.amount_minor THEN word := 'amount_mismatch';
            ELSE
                word := 'done'; kept_as := 'refund_due'; why := NULL;
                IF NOT found_it THEN why := 'unknown_order';
                ELSIF a.amount <> o.amount_minor OR coalesce(a.currency, s.currency) <> s.currency THEN why := 'amount';
                ELSIF o.status = 'confirmed' THEN
                    kept_as := 'applied'; became := 'paid'; paid := paid || this_one;
                ELSIF o.status = 'expired' AND NOT EXISTS (
                    SELECT FROM payments x WHERE x.sale_no = o.sale_no AND x.order_id = o.order_id AND x.state = 'waiting')
                THEN kept_as := 'waiting';
                ELSIF o.status = 'cancelled' THEN
                    why := 'cancelled'; became := 'refund_due';
                ELSIF o.status = 'refused' THEN why := 'refused';
                ELSE why := 'second';
                END IF;
                INSERT INTO payments (shop_no, provider, txn, order_id, sale_no, amount_minor, paid_at, state, reason)
                VALUES (a.shop_no, a.provider, a.txn, a."order", o.sale_no, a.amount,
                        to_timestamp(a.paid_at_ms / 1000.0), kept_as, why);
            END IF;

        ELSIF a."do" = 'refund' THEN
            p := NULL;
            SELECT * INTO p FROM payments x
             WHERE x.shop_no = a.shop_no AND x.order_id = a."order" AND x.txn = a.txn
               AND x.provider = coalesce(a.provider, x.provider)
             ORDER BY (x.state = 'refund_due') DESC, x.payment_no LIMIT 1;
            IF NOT FOUND THEN
                -- The provider told of the refund before it told of the payment: when that comes, it was given back already.
                IF a.keep THEN
                    INSERT INTO payments (shop_no, provider, txn, order_id, sale_no, amount_minor, paid_at, state, reason,
                                          refunded_at)
                    VALUES (a.shop_no, a.provider, a.txn, a."order", o.sale_no, a.amount,
                            to_timestamp(a.paid_at_ms / 1000.0), 'refunded', 'refund_first', clock_timestamp())
                    ON CONFLICT DO NOTHING;
                    word := CASE WHEN FOUND THEN 'done' ELSE 'txn_reused' END;
                ELSE word := CASE WHEN found_it THEN 'no_payment' ELSE 'not_found' END;
                END IF;
            ELSIF p.state = 'refunded' THEN word := 'replayed';
            ELSIF p.amount_minor <> a.amount THEN word := 'amount_mismatch';
            ELSIF p.state = 'waiting' THEN word := 'waiting';
            ELSE
                word := 'done';
                IF p.state = 'applied' THEN
                    became := 'refunded'; back := back || this_one;
                ELSIF o.status = 'refund_due' AND NOT EXISTS (
                    SELECT FROM payments x WHERE x.sale_no = o.sale_no AND x.order_id = o.order_id
                       AND x.state = 'refund_due' AND x.payment_no <> p.payment_no)
                THEN became := 'refunded';
                END IF;
                UPDATE payments x SET state = 'refunded', refunded_at = clock_timestamp() WHERE x.payment_no = p.payment_no;
            END IF;
        END IF;

        IF became IS NOT NULL THEN
            UPDATE orders x SET status = became WHERE x.sale_no = o.sale_no AND x.order_id = o.order_id;
        END IF;
        IF word = 'done' AND a.key IS NOT NULL THEN
            INSERT INTO effects (shop_no, caller, kind, key, fingerprint, object)
            VALUES (a.shop_no, a.caller, a."do", a.key, a.fingerprint, a."order");
        END IF;
        viewer := o.viewer; order_id := a."order"; status := coalesce(became, o.status); changed := became IS NOT NULL;
        RETURN NEXT;
    END LOOP;
    PERFORM move_units(p_shard, 'paid', paid);
    PERFORM move_units(p_shard, 'release', ended);
    PERFORM move_units(p_shard, 'return', back);
END $$;

-- One control act of the stream, now also a price. Returns whether it took effect: what the ledger cannot take (stock under
-- held + sold, a price under the floor, a key that has had its effect) is stored with after = NULL and changes nothing; since
-- Valkey has it in force, the shard has to be recounted.
CREATE OR REPLACE FUNCTION apply_act(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_sale integer, p_act text, p_item smallint, p_value bigint, p_actor text, p_at_ms bigint,
    p_effect_kind text, p_effect_key text, p_effect_fingerprint text, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was text;
    became text;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    IF EXISTS (SELECT FROM effects e JOIN sales s ON s.shop_no = e.shop_no
                WHERE s.sale_no = p_sale AND e.caller = p_actor AND e.kind = p_effect_kind AND e.key = p_effect_key) THEN
        was := NULL;
    ELSIF p_act = 'stock' THEN
        SELECT stock::text INTO was FROM sale_items WHERE sale_no = p_sale AND item_no = p_item;
        UPDATE sale_items SET stock = stock + p_value
         WHERE sale_no = p_sale AND item_no = p_item AND stock + p_value >= held + sold
        RETURNING stock::text INTO became;
    ELSIF p_act = 'price' THEN
        SELECT price_minor::text INTO was FROM sale_items WHERE sale_no = p_sale AND item_no = p_item;
        UPDATE sale_items SET price_minor = p_value
         WHERE sale_no = p_sale AND item_no = p_item AND p_value >= coalesce(floor_minor, 0)
        RETURNING price_minor::text INTO became;
        UPDATE sales SET changed_at = clock_timestamp() WHERE sale_no = p_sale AND became IS NOT NULL;
    ELSE
        SELECT concat(hold, ' ', opens_at_ms) INTO was FROM sales WHERE sale_no = p_sale;
        UPDATE sales SET changed_at = clock_timestamp(),
               hold = CASE p_act WHEN 'pause' THEN 'paused' WHEN 'close' THEN 'closed' ELSE 'active' END,
               opens_at_ms = CASE WHEN p_act = 'open' THEN least(opens_at_ms, p_at_ms) ELSE opens_at_ms END
         WHERE sale_no = p_sale AND hold <> 'closed'
        RETURNING concat(hold, ' ', opens_at_ms) INTO became;
    END IF;
    INSERT INTO acts VALUES (p_shard, p_epoch, p_to, p_sale, p_act, p_actor, p_at_ms, was, became, p_reason);
    IF became IS NULL AND p_act IN ('stock', 'price') THEN
        UPDATE shards SET wants = coalesce(wants, 'act') WHERE shard = p_shard;
    END IF;
    -- Only effects are remembered by key.
    IF p_effect_key IS NOT NULL AND became IS NOT NULL THEN
        INSERT INTO effects (shop_no, caller, kind, key, fingerprint, object)
        SELECT shop_no, p_actor, p_effect_kind, p_effect_key, p_effect_fingerprint, sale FROM sales WHERE sale_no = p_sale
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN became IS NOT NULL;
END $$;
