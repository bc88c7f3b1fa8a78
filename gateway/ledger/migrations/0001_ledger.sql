-- The ledger: the only truth about what was sold. Every judgement about an order stands here, in constraints and in the
-- two functions at the end, so that an order beyond the stock, the limit, the price or the window is refused by
-- PostgreSQL even if Valkey was wrong. Money is integers in minor units. Instants judged against Valkey's time are
-- integer milliseconds; instants of the ledger itself are timestamptz.

CREATE TABLE installation (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id_key   bytea NOT NULL CHECK (length(id_key) = 32)  -- the key of the check in public ids
);
INSERT INTO installation (id_key)
    SELECT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());

-- A shard is a stream of orders in Valkey. The cursor (epoch, last_seq) is how far this ledger has applied it, moved in the
-- same transaction as the orders; the lease says which writer may move it; outbox_no numbers what goes back to Valkey.
CREATE TABLE shards (
    shard        smallint PRIMARY KEY CHECK (shard >= 0),
    epoch        integer NOT NULL DEFAULT 1 CHECK (epoch BETWEEN 1 AND 65535),
    last_seq     bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    outbox_no    bigint NOT NULL DEFAULT 0 CHECK (outbox_no >= 0),
    opened       boolean NOT NULL DEFAULT false,         -- Valkey was given it once: found missing there, it is lost
    lease_holder text,
    lease_token  bigint NOT NULL DEFAULT 0,              -- grows with every change of holder; fences the one before
    lease_until  timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

CREATE TABLE shops (
    shop_no    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop       text COLLATE "C" NOT NULL UNIQUE CHECK (shop ~ '^[a-z0-9-]{1,64}$'),
    shard      smallint NOT NULL REFERENCES shards,
    origins    text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE shop_keys (
    kid        text COLLATE "C" PRIMARY KEY,
    shop_no    integer NOT NULL REFERENCES shops,
    signs      text NOT NULL CHECK (signs IN ('viewer', 'staff')),
    alg        text NOT NULL CHECK (alg IN ('HS256', 'ES256')),
    secret     bytea NOT NULL CHECK (length(secret) >= 32),  -- HS256: the key; ES256: the public key in PEM
    created_at timestamptz NOT NULL DEFAULT now(),
    retires_at timestamptz
);
CREATE INDEX shop_keys_by_shop ON shop_keys (shop_no);

CREATE TABLE rooms (
    room_no       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room          text COLLATE "C" UNIQUE,
    shop_no       integer NOT NULL REFERENCES shops,
    title         text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    state         text NOT NULL DEFAULT 'scheduled' CHECK (state IN ('scheduled', 'live', 'ended')),
    starts_at_ms  bigint,
    stream_url    text CHECK (length(stream_url) <= 2000),
    notice        text CHECK (length(notice) <= 1000),
    created_at_ms bigint NOT NULL,
    started_at_ms bigint,
    ended_at_ms   bigint,
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX rooms_by_shop ON rooms (shop_no, room_no);
CREATE INDEX rooms_by_change ON rooms (changed_at);

CREATE TABLE sales (
    sale_no       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sale          text COLLATE "C" UNIQUE,
    shop_no       integer NOT NULL REFERENCES shops,
    room_no       integer REFERENCES rooms,
    title         text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    hold          text NOT NULL DEFAULT 'active' CHECK (hold IN ('active', 'paused', 'closed')),
    opens_at_ms   bigint NOT NULL,
    closes_at_ms  bigint NOT NULL,
    pay_within_s  integer NOT NULL CHECK (pay_within_s BETWEEN 5 AND 86400),
    stock_display text NOT NULL DEFAULT 'exact' CHECK (stock_display IN ('exact', 'low', 'hidden')),
    created_at_ms bigint NOT NULL,
    loaded_epoch  integer,                               -- the epoch in which Valkey was given this sale
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (opens_at_ms < closes_at_ms)
);
CREATE INDEX sales_by_shop ON sales (shop_no, sale_no);
CREATE INDEX sales_by_room ON sales (room_no) WHERE room_no IS NOT NULL;
CREATE INDEX sales_unloaded ON sales (sale_no) WHERE loaded_epoch IS NULL;

CREATE TABLE sale_items (
    sale_no          integer NOT NULL REFERENCES sales,
    item_no          smallint NOT NULL CHECK (item_no BETWEEN 1 AND 200),
    sku              text COLLATE "C" NOT NULL CHECK (length(sku) BETWEEN 1 AND 64),
    title            text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    price_minor      bigint NOT NULL CHECK (price_minor BETWEEN 0 AND 9000000000000),
    list_price_minor bigint CHECK (list_price_minor >= 0),
    floor_minor      bigint CHECK (floor_minor BETWEEN 0 AND price_minor),
    stock            integer NOT NULL CHECK (stock >= 0),
    limit_per_viewer integer NOT NULL CHECK (limit_per_viewer >= 1),
    image_url        text CHECK (length(image_url) <= 2000),
    held             integer NOT NULL DEFAULT 0 CHECK (held >= 0),  -- units of orders confirmed and not paid
    sold             integer NOT NULL DEFAULT 0 CHECK (sold >= 0),  -- units of orders paid
    PRIMARY KEY (sale_no, item_no),
    UNIQUE (sale_no, sku),
    CHECK (held + sold <= stock)
) WITH (fillfactor = 50);

-- A refused order keeps its row but not its key: a refusal is not remembered, and the key may belong to another order.
-- No foreign key to sale_items: the judgement of a batch joins them anyway; the key would look each row up once more.
CREATE TABLE orders (
    sale_no        integer NOT NULL,
    order_id       text COLLATE "C" NOT NULL,
    viewer         text COLLATE "C" NOT NULL,
    key            text COLLATE "C",
    item_no        smallint NOT NULL,
    quantity       integer NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    price_minor    bigint NOT NULL CHECK (price_minor >= 0),
    discount_minor bigint NOT NULL DEFAULT 0 CHECK (discount_minor >= 0),
    amount_minor   bigint NOT NULL CHECK (amount_minor >= 0),
    status         text NOT NULL CHECK (status IN ('confirmed', 'paid', 'expired', 'cancelled', 'refused',
                                                   'refund_due', 'refunded')),
    reason         text,
    epoch          integer NOT NULL,
    seq            bigint NOT NULL CHECK (seq >= 1),
    created_at_ms  bigint NOT NULL,                      -- decided at, by Valkey's time
    confirmed_at   timestamptz,
    pay_by         timestamptz,
    fingerprint    text NOT NULL,
    extra          text,                                 -- JSON of what the shop sent along (ref, meta)
    PRIMARY KEY (sale_no, order_id),
    UNIQUE (viewer, sale_no, key),                       -- one order a key, for good; also finds a viewer's own orders
    CHECK (amount_minor = price_minor * quantity - discount_minor),
    CHECK ((status = 'refused') = (confirmed_at IS NULL)),
    CHECK ((status = 'refused') = (reason IS NOT NULL)),
    CHECK (status <> 'refused' OR key IS NULL),
    CHECK (status = 'refused' OR (key IS NOT NULL AND pay_by > confirmed_at))
) WITH (fillfactor = 90);
-- Units of a viewer's live orders (confirmed or paid) of an item; its CHECK is the purchase limit's last line.
CREATE TABLE holdings (
    viewer      text COLLATE "C" NOT NULL,
    sale_no     integer NOT NULL,
    item_no     smallint NOT NULL,
    units       integer NOT NULL CHECK (units >= 0),
    limit_units integer NOT NULL,
    PRIMARY KEY (viewer, sale_no, item_no),
    CHECK (units <= limit_units)
) WITH (fillfactor = 80);

-- Control acts in the order the stream gave them; with the orders they account for every sequence number of an epoch.
CREATE TABLE acts (
    shard   smallint NOT NULL REFERENCES shards,
    epoch   integer NOT NULL,
    seq     bigint NOT NULL CHECK (seq >= 1),
    sale_no integer NOT NULL REFERENCES sales,
    act     text NOT NULL CHECK (act IN ('open', 'pause', 'resume', 'close', 'stock')),
    actor   text NOT NULL,
    at_ms   bigint NOT NULL,
    before  text,
    after   text,                                        -- NULL: the ledger could not take it
    reason  text,                                        -- why, in the host's words
    PRIMARY KEY (shard, epoch, seq)
);
CREATE INDEX acts_by_sale ON acts (sale_no, seq);

-- Entries the ledger could not take, kept for people. Sequence numbers first..last are accounted for by the row.
CREATE TABLE parked (
    shard     smallint NOT NULL REFERENCES shards,
    epoch     integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL CHECK (last_seq >= first_seq),
    reason    text NOT NULL,
    entry     bytea NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, epoch, first_seq)
);

-- What goes back to Valkey, numbered without a gap a shard under the shard's row lock. Valkey keeps the number it has
-- applied, so that each is applied exactly once; rows behind that number are deleted.
CREATE TABLE outbox (
    shard    smallint NOT NULL REFERENCES shards,
    no       bigint NOT NULL,
    sale_no  integer NOT NULL,
    item_no  smallint NOT NULL,
    viewer   text COLLATE "C" NOT NULL,
    key      text COLLATE "C",
    epoch    integer NOT NULL,
    seq      bigint NOT NULL,
    quantity integer NOT NULL CHECK (quantity >= 1),
    PRIMARY KEY (shard, no)
);

-- Effects remembered by idempotency key, for everything but orders (whose row is their memory).
CREATE TABLE effects (
    shop_no     integer NOT NULL REFERENCES shops,
    caller      text COLLATE "C" NOT NULL,
    kind        text NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint text NOT NULL,
    object      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_no, caller, kind, key)
);

CREATE TYPE applied AS (
    confirmed_at_ms bigint,      -- the ledger's time of the batch
    sales           integer[],   -- the batch's sales and, beside each, when its confirmed orders must be paid
    pay_by_ms       bigint[],
    refused         bigint[],    -- sequence numbers that were refused, and why
    reasons         text[]
);

-- Moves the cursor of a shard, or raises LEASE when the caller no longer holds the lease or stands elsewhere. It is the first
-- statement of every batch: its row lock puts all batches of a shard one after the other.
CREATE FUNCTION move_cursor(p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shards SET last_seq = p_to
     WHERE shard = p_shard AND epoch = p_epoch AND last_seq = p_from AND lease_token = p_token;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'shard % is not at epoch % sequence number % under lease %', p_shard, p_epoch, p_from, p_token
            USING ERRCODE = 'PG001';
    END IF;
END $$;

-- Judges one order by itself, in its turn; used when a batch is not clean as a whole. Returns the reason of a refusal or NULL.
CREATE FUNCTION judge_order(p_sale integer, p_item smallint, p_viewer text, p_key text, p_quantity integer,
                            p_price bigint, p_at_ms bigint)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    i sale_items%ROWTYPE;
    s sales%ROWTYPE;
BEGIN
    SELECT * INTO s FROM sales WHERE sale_no = p_sale;
    SELECT * INTO i FROM sale_items WHERE sale_no = p_sale AND item_no = p_item;
    IF s.sale_no IS NULL OR i.sale_no IS NULL THEN RETURN 'unknown_item'; END IF;
    IF EXISTS (SELECT 1 FROM orders WHERE viewer = p_viewer AND sale_no = p_sale AND key = p_key) THEN
        RETURN 'key';
    END IF;
    IF s.hold <> 'active' OR p_at_ms < s.opens_at_ms OR p_at_ms >= s.closes_at_ms THEN RETURN 'window'; END IF;
    IF p_price <> i.price_minor THEN RETURN 'price'; END IF;
    IF p_quantity + coalesce((SELECT units FROM holdings WHERE viewer = p_viewer AND sale_no = p_sale
                                 AND item_no = p_item), 0) > i.limit_per_viewer THEN
        RETURN 'limit';
    END IF;
    UPDATE sale_items SET held = held + p_quantity
     WHERE sale_no = p_sale AND item_no = p_item AND held + sold + p_quantity <= stock;
    IF NOT FOUND THEN RETURN 'stock'; END IF;
    INSERT INTO holdings AS h VALUES (p_viewer, p_sale, p_item, p_quantity, i.limit_per_viewer)
        ON CONFLICT (viewer, sale_no, item_no) DO UPDATE SET units = h.units + excluded.units;
    RETURN NULL;
END $$;

-- Applies the orders first..last of one shard's stream: moves the cursor, judges, inserts, all or nothing. The usual batch
-- is clean and is judged as a whole (one guarded update an item, one upsert a viewer and item); when a whole-batch
-- judgement fails, its writes are rolled back and each order is judged in its turn.
CREATE FUNCTION apply_orders(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_seqs bigint[], p_sales integer[], p_items smallint[], p_order_ids text[], p_viewers text[], p_keys text[],
    p_fingerprints text[], p_quantities integer[], p_prices bigint[], p_at_ms bigint[], p_extras text[])
RETURNS applied LANGUAGE plpgsql AS $$
DECLARE
    answer     applied;
    asked      integer;
    granted    integer;
    beyond     integer;
    clean      boolean := false;
    reason     text;
    o          record;
    refused    bigint[] := '{}';
    reasons    text[] := '{}';
    now_is     timestamptz;
    next_no    bigint;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    now_is := clock_timestamp();
    BEGIN
        WITH wanted AS (
            SELECT sale_no, item_no, sum(quantity) AS units, min(price) AS lowest, max(price) AS highest,
                   min(at_ms) AS first_at, max(at_ms) AS last_at
              FROM unnest(p_sales, p_items, p_quantities, p_prices, p_at_ms)
                   AS u(sale_no, item_no, quantity, price, at_ms)
             GROUP BY sale_no, item_no ORDER BY sale_no, item_no
        ), taken AS (
            UPDATE sale_items i SET held = i.held + w.units
              FROM wanted w JOIN sales s ON s.sale_no = w.sale_no
             WHERE i.sale_no = w.sale_no AND i.item_no = w.item_no
               AND i.held + i.sold + w.units <= i.stock
               AND w.lowest = i.price_minor AND w.highest = i.price_minor
               AND s.hold = 'active' AND w.first_at >= s.opens_at_ms AND w.last_at < s.closes_at_ms
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM taken) INTO asked, granted;
        IF asked <> granted THEN RAISE EXCEPTION 'not clean' USING ERRCODE = 'PG002'; END IF;

        WITH more AS (
            INSERT INTO holdings AS h
            SELECT u.viewer, u.sale_no, u.item_no, sum(u.quantity), i.limit_per_viewer
              FROM unnest(p_viewers, p_sales, p_items, p_quantities) AS u(viewer, sale_no, item_no, quantity)
              JOIN sale_items i ON i.sale_no = u.sale_no AND i.item_no = u.item_no
             GROUP BY u.viewer, u.sale_no, u.item_no, i.limit_per_viewer
            ON CONFLICT (viewer, sale_no, item_no) DO UPDATE SET units = h.units + excluded.units
            RETURNING 1
        )
        SELECT count(*) FROM more INTO beyond;

        INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status, epoch,
                            seq, created_at_ms, confirmed_at, pay_by, fingerprint, extra)
        SELECT u.sale_no, u.order_id, u.viewer, u.key, u.item_no, u.quantity, u.price, u.price * u.quantity, 'confirmed',
               p_epoch, u.seq, u.at_ms, now_is, now_is + make_interval(secs => s.pay_within_s), u.fingerprint, u.extra
          FROM unnest(p_seqs, p_sales, p_items, p_order_ids, p_viewers, p_keys, p_fingerprints, p_quantities, p_prices,
                      p_at_ms, p_extras)
               AS u(seq, sale_no, item_no, order_id, viewer, key, fingerprint, quantity, price, at_ms, extra)
          JOIN sales s ON s.sale_no = u.sale_no;
        clean := true;
    EXCEPTION
        -- Our own signal, or a limit (CHECK of holdings) or key (UNIQUE of orders) that the whole batch does not keep.
        WHEN SQLSTATE 'PG002' OR check_violation OR unique_violation OR cardinality_violation THEN
            clean := false;
    END;

    IF NOT clean THEN
        UPDATE shards SET outbox_no = outbox_no WHERE shard = p_shard RETURNING outbox_no INTO next_no;
        FOR o IN
            SELECT u.*, s.pay_within_s
              FROM unnest(p_seqs, p_sales, p_items, p_order_ids, p_viewers, p_keys, p_fingerprints, p_quantities,
                          p_prices, p_at_ms, p_extras)
                   AS u(seq, sale_no, item_no, order_id, viewer, key, fingerprint, quantity, price, at_ms, extra)
              LEFT JOIN sales s ON s.sale_no = u.sale_no
             ORDER BY u.seq
        LOOP
            reason := judge_order(o.sale_no, o.item_no, o.viewer, o.key, o.quantity, o.price, o.at_ms);
            IF reason IS NOT NULL THEN
                refused := refused || o.seq;
                reasons := reasons || reason;
                next_no := next_no + 1;
                INSERT INTO outbox VALUES (p_shard, next_no, o.sale_no, o.item_no, o.viewer, o.key, p_epoch, o.seq,
                                           o.quantity);
            END IF;
            INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status,
                                reason, epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint, extra)
            VALUES (o.sale_no, o.order_id, o.viewer, CASE WHEN reason IS NULL THEN o.key END, o.item_no, o.quantity,
                    o.price, o.price * o.quantity, CASE WHEN reason IS NULL THEN 'confirmed' ELSE 'refused' END,
                    reason, p_epoch, o.seq, o.at_ms, CASE WHEN reason IS NULL THEN now_is END,
                    CASE WHEN reason IS NULL THEN now_is + make_interval(secs => o.pay_within_s) END,
                    o.fingerprint, o.extra);
        END LOOP;
        UPDATE shards SET outbox_no = next_no WHERE shard = p_shard;
    END IF;

    answer.confirmed_at_ms := (extract(epoch FROM now_is) * 1000)::bigint;
    SELECT array_agg(s.sale_no), array_agg(answer.confirmed_at_ms + s.pay_within_s * 1000)
      INTO answer.sales, answer.pay_by_ms
      FROM sales s WHERE s.sale_no IN (SELECT DISTINCT unnest(p_sales));
    answer.refused := refused;
    answer.reasons := reasons;
    RETURN answer;
END $$;

-- Applies one control act of the stream. Returns whether it took effect: a change of stock that the ledger cannot take
-- (stock under held + sold) is stored with after = NULL and changes nothing.
CREATE FUNCTION apply_act(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_sale integer, p_act text, p_item smallint, p_value bigint, p_actor text, p_at_ms bigint,
    p_effect_kind text, p_effect_key text, p_effect_fingerprint text, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was text;
    became text;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    IF p_act = 'stock' THEN
        SELECT stock::text INTO was FROM sale_items WHERE sale_no = p_sale AND item_no = p_item;
        UPDATE sale_items SET stock = stock + p_value
         WHERE sale_no = p_sale AND item_no = p_item AND stock + p_value >= held + sold
        RETURNING stock::text INTO became;
    ELSE
        SELECT concat(hold, ' ', opens_at_ms) INTO was FROM sales WHERE sale_no = p_sale;
        UPDATE sales SET changed_at = clock_timestamp(),
               hold = CASE p_act WHEN 'pause' THEN 'paused' WHEN 'close' THEN 'closed' ELSE 'active' END,
               opens_at_ms = CASE WHEN p_act = 'open' THEN least(opens_at_ms, p_at_ms) ELSE opens_at_ms END
         WHERE sale_no = p_sale AND hold <> 'closed'
        RETURNING concat(hold, ' ', opens_at_ms) INTO became;
    END IF;
    INSERT INTO acts VALUES (p_shard, p_epoch, p_to, p_sale, p_act, p_actor, p_at_ms, was, became, p_reason);
    IF p_effect_key IS NOT NULL THEN
        INSERT INTO effects (shop_no, caller, kind, key, fingerprint, object)
        SELECT shop_no, p_actor, p_effect_kind, p_effect_key, p_effect_fingerprint, sale FROM sales WHERE sale_no = p_sale
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN became IS NOT NULL;
END $$;

-- Moves the cursor past an entry that the ledger cannot take; it is kept for people.
CREATE FUNCTION park_entry(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint, p_reason text, p_entry bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry)
        VALUES (p_shard, p_epoch, p_from + 1, p_to, p_reason, p_entry);
END $$;

-- The same for one order: beside the entry it is a refused row, so that it can be asked for, and its units go back.
CREATE FUNCTION park_order(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint, p_reason text, p_entry bytea,
    p_sale integer, p_item smallint, p_order_id text, p_viewer text, p_key text, p_fingerprint text,
    p_quantity integer, p_price bigint, p_at_ms bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next_no bigint;
BEGIN
    PERFORM park_entry(p_shard, p_epoch, p_from, p_to, p_token, p_reason, p_entry);
    INSERT INTO orders (sale_no, order_id, viewer, item_no, quantity, price_minor, amount_minor, status, reason, epoch,
                        seq, created_at_ms, fingerprint)
        VALUES (p_sale, p_order_id, p_viewer, p_item, p_quantity, p_price, p_price * p_quantity, 'refused', 'data',
                p_epoch, p_to, p_at_ms, p_fingerprint);
    UPDATE shards SET outbox_no = outbox_no + 1 WHERE shard = p_shard RETURNING outbox_no INTO next_no;
    INSERT INTO outbox VALUES (p_shard, next_no, p_sale, p_item, p_viewer, p_key, p_epoch, p_to, p_quantity);
END $$;
