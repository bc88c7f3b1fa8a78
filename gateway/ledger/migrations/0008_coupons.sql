-- Coupons, their claims, and price plans. A claim takes a copy of a coupon, an order redeems a claim. Claims come by the stream
-- of the coupon's shop, as orders do, and every change of a claim happens under the row lock of that shard: a claim is
-- redeemed by one order at a time, whatever Valkey held.

CREATE TABLE coupons (
    coupon_no        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    coupon           text COLLATE "C" UNIQUE,
    shop_no          integer NOT NULL REFERENCES shops,
    room_no          integer REFERENCES rooms,
    title            text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    kind             text NOT NULL CHECK (kind IN ('amount', 'percent', 'random')),
    value_minor      bigint NOT NULL DEFAULT 0 CHECK (value_minor BETWEEN 0 AND 9000000000000),  -- of an amount
    percent          integer NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 99),
    min_minor        bigint NOT NULL DEFAULT 0 CHECK (min_minor >= 0),                           -- these three of random
    max_minor        bigint NOT NULL DEFAULT 0 CHECK (max_minor BETWEEN min_minor AND 9000000000000),
    budget_minor     bigint NOT NULL DEFAULT 0 CHECK (budget_minor BETWEEN 0 AND 9000000000000000),
    threshold_minor  bigint NOT NULL DEFAULT 0 CHECK (threshold_minor >= 0),
    copies           integer NOT NULL CHECK (copies >= 1),
    limit_per_viewer integer NOT NULL CHECK (limit_per_viewer >= 1),
    currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    claim_from_ms    bigint,                             -- NULL: only a drop opens it
    claim_until_ms   bigint NOT NULL,
    valid_until_ms   bigint NOT NULL,
    created_at_ms    bigint NOT NULL,
    claimed          integer NOT NULL DEFAULT 0 CHECK (claimed >= 0),      -- claims that were not refused
    spent_minor      bigint NOT NULL DEFAULT 0 CHECK (spent_minor >= 0),   -- of a budget: what they are worth
    dropped_room_no  integer REFERENCES rooms,           -- where it was dropped last
    loaded_epoch     integer,                            -- the epoch in which Valkey was given it
    retired_at       timestamptz,                        -- nothing of it can change any more but by refunds
    forgotten_at     timestamptz,                        -- Valkey has forgotten it
    changed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'amount') = (value_minor > 0) AND (kind = 'percent') = (percent > 0)
           AND (kind = 'random') = (min_minor > 0) AND (kind = 'random') = (max_minor > 0)
           AND (kind = 'random') = (budget_minor > 0)),
    CHECK (claim_from_ms < claim_until_ms AND claim_until_ms <= valid_until_ms),
    CHECK (claimed <= copies),
    -- Each copy that is left gets the least value at least.
    CONSTRAINT coupons_budget CHECK (kind <> 'random' OR spent_minor + (copies - claimed) * min_minor <= budget_minor)
) WITH (fillfactor = 50);
CREATE INDEX coupons_by_shop ON coupons (shop_no, coupon_no);
CREATE INDEX coupons_by_room ON coupons (room_no) WHERE room_no IS NOT NULL;
CREATE INDEX coupons_by_opening ON coupons (claim_from_ms) WHERE room_no IS NOT NULL;
CREATE INDEX coupons_by_drop ON coupons (dropped_room_no) WHERE dropped_room_no IS NOT NULL;
CREATE INDEX coupons_in_valkey ON coupons (coupon_no) WHERE forgotten_at IS NULL;

-- Sales it is bound to; none: all of its shop.
CREATE TABLE coupon_sales (
    coupon_no integer NOT NULL REFERENCES coupons,
    sale_no   integer NOT NULL REFERENCES sales,
    PRIMARY KEY (coupon_no, sale_no)
);

-- A refused claim keeps its row but not its key, as a refused order does. Orders name claims by their place in the stream.
CREATE TABLE claims (
    coupon_no    integer NOT NULL,
    epoch        integer NOT NULL,
    seq          bigint NOT NULL CHECK (seq >= 1),
    claim        text COLLATE "C" NOT NULL,
    viewer       text COLLATE "C" NOT NULL,
    key          text COLLATE "C",
    value_minor  bigint NOT NULL CHECK (value_minor >= 0),
    state        text NOT NULL CHECK (state IN ('confirmed', 'redeemed', 'refused')),
    reason       text,
    at_ms        bigint NOT NULL,                        -- decided at, by Valkey's time
    confirmed_at timestamptz,
    sale_no      integer,                                -- the order that redeems it: confirmed or paid
    order_id     text COLLATE "C",
    PRIMARY KEY (coupon_no, epoch, seq),
    UNIQUE (viewer, coupon_no, key),                     -- one claim a key, for good; also finds a viewer's own claims
    CHECK ((state = 'refused') = (reason IS NOT NULL)),
    CHECK ((state = 'refused') = (confirmed_at IS NULL)),
    CHECK ((state = 'refused') = (key IS NULL)),
    CHECK (num_nonnulls(sale_no, order_id) = CASE state WHEN 'redeemed' THEN 2 ELSE 0 END)
) WITH (fillfactor = 80);

-- Claims of a viewer that were not refused; its CHECK is the limit's last line.
CREATE TABLE coupon_holdings (
    viewer       text COLLATE "C" NOT NULL,
    coupon_no    integer NOT NULL,
    claims       integer NOT NULL CHECK (claims >= 0),
    limit_claims integer NOT NULL,
    PRIMARY KEY (viewer, coupon_no),
    CHECK (claims <= limit_claims)
) WITH (fillfactor = 80);

-- What hosts did to coupons through the stream, and in which room.
CREATE TABLE coupon_acts (
    shard     smallint NOT NULL REFERENCES shards,
    epoch     integer NOT NULL,
    seq       bigint NOT NULL CHECK (seq >= 1),
    coupon_no integer NOT NULL REFERENCES coupons,
    room_no   integer REFERENCES rooms,
    act       text NOT NULL CHECK (act IN ('drop')),
    actor     text NOT NULL,
    at_ms     bigint NOT NULL,
    before    text,
    after     text,                                      -- NULL: the ledger could not take it
    PRIMARY KEY (shard, epoch, seq)
);
CREATE INDEX coupon_acts_by_coupon ON coupon_acts (coupon_no, seq);
CREATE INDEX coupon_acts_by_room ON coupon_acts (room_no, at_ms DESC) WHERE room_no IS NOT NULL;

-- Steps of an item's price: an array of [from ms, price], the earliest first. NULL: its price stays as it is.
ALTER TABLE sale_items ADD COLUMN prices jsonb CHECK (jsonb_typeof(prices) = 'array');
ALTER TABLE acts DROP CONSTRAINT acts_act_check;
ALTER TABLE acts ADD CONSTRAINT acts_act_check
    CHECK (act IN ('open', 'pause', 'resume', 'close', 'stock', 'price', 'plan', 'window'));

-- The claim that an order asked to redeem; whether it does stands with the claim.
ALTER TABLE orders
    ADD COLUMN coupon_no   integer,
    ADD COLUMN claim_epoch integer,
    ADD COLUMN claim_seq   bigint,
    ADD COLUMN claim       text COLLATE "C",             -- its id; NULL also where there is no such claim
    ADD CONSTRAINT orders_discount CHECK (discount_minor = 0 OR coupon_no IS NOT NULL);

-- Rows also name the claim of an order. Of another kind is
--   unclaim  the ledger did not take the claim: copy and budget back to give, not counted for the viewer, the key free
-- which is of no sale; epoch and seq are those of the claim.
ALTER TABLE outbox
    ALTER COLUMN sale_no DROP NOT NULL,
    ADD COLUMN coupon_no   integer,
    ADD COLUMN claim_epoch integer,
    ADD COLUMN claim_seq   bigint,
    DROP CONSTRAINT outbox_kind_check,
    ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('refuse', 'release', 'paid', 'return', 'unclaim')),
    ADD CHECK ((kind = 'unclaim') = (sale_no IS NULL)),
    ADD CHECK (num_nonnulls(coupon_no, claim_epoch, claim_seq) IN (0, 3));

ALTER TYPE moved_order ADD ATTRIBUTE coupon_no integer, ADD ATTRIBUTE claim_epoch integer, ADD ATTRIBUTE claim_seq bigint;
-- Beside the sequence numbers of orders that name a claim: its id, and its state now; NULL where the viewer has no such claim.
ALTER TYPE applied ADD ATTRIBUTE claimed_by bigint[], ADD ATTRIBUTE claims text[], ADD ATTRIBUTE claim_states text[];

-- The price of an item at an instant: that of the last step that has begun, else its own.
CREATE FUNCTION price_at(p_price bigint, p_prices jsonb, p_at_ms bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((SELECT (step.value ->> 1)::bigint FROM jsonb_array_elements(p_prices) AS step
                      WHERE (step.value ->> 0)::bigint <= p_at_ms ORDER BY (step.value ->> 0)::bigint DESC LIMIT 1),
                    p_price)
$$;

-- Steps as acts and scripts spell them: 'from ms:price;from ms:price'.
CREATE FUNCTION plan_text(p_prices jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(string_agg(concat(step.value ->> 0, ':', step.value ->> 1), ';' ORDER BY step.at), '')
      FROM jsonb_array_elements(p_prices) WITH ORDINALITY AS step(value, at)
$$;

-- What a coupon gives on an order: total is price times quantity, floor what the order must cost at least. 0 or less: nothing.
CREATE FUNCTION discount_of(p_kind text, p_value bigint, p_percent integer, p_threshold bigint, p_claim_value bigint,
                            p_total bigint, p_floor bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_total < p_threshold THEN 0
                ELSE least(CASE p_kind WHEN 'amount' THEN p_value WHEN 'percent' THEN p_total * p_percent / 100
                                       ELSE p_claim_value END,
                           p_total - greatest(p_floor, 1)) END
$$;

-- Redeems the claims that orders name, each that can be: it is the viewer's, confirmed and free, not past its time, of the
-- sale's shop, whose shard this is, fit for the sale, and gives the discount. Returns their ids beside the orders'; NULL where
-- nothing was redeemed. The caller holds the shard's row lock.
CREATE FUNCTION redeem_claims(
    p_shard smallint, p_sales integer[], p_items smallint[], p_order_ids text[], p_viewers text[], p_quantities integer[],
    p_prices bigint[], p_at_ms bigint[], p_discounts bigint[], p_coupons integer[], p_claim_epochs integer[],
    p_claim_seqs bigint[])
RETURNS text[] LANGUAGE sql
-- A claim is found by its key, however few rows the planner believes the table to have.
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
    WITH taken AS (
        UPDATE claims c SET state = 'redeemed', sale_no = n.sale_no, order_id = n.order_id
          FROM unnest(p_sales, p_items, p_order_ids, p_viewers, p_quantities, p_prices, p_at_ms, p_discounts, p_coupons,
                      p_claim_epochs, p_claim_seqs)
               WITH ORDINALITY AS n(sale_no, item_no, order_id, viewer, quantity, price, at_ms, discount, coupon_no,
                                    claim_epoch, claim_seq, at)
          JOIN coupons k ON k.coupon_no = n.coupon_no
          JOIN sales s ON s.sale_no = n.sale_no AND s.shop_no = k.shop_no AND s.currency = k.currency
          JOIN shops h ON h.shop_no = k.shop_no AND h.shard = p_shard
          JOIN sale_items i ON i.sale_no = n.sale_no AND i.item_no = n.item_no
         WHERE c.coupon_no = n.coupon_no AND c.epoch = n.claim_epoch AND c.seq = n.claim_seq
           AND c.viewer = n.viewer AND c.state = 'confirmed' AND n.at_ms < k.valid_until_ms
           AND n.discount > 0
           AND n.discount = discount_of(k.kind, k.value_minor, k.percent, k.threshold_minor, c.value_minor,
                                        n.price * n.quantity, coalesce(i.floor_minor, 0) * n.quantity)
           AND (EXISTS (SELECT FROM coupon_sales b WHERE b.coupon_no = n.coupon_no AND b.sale_no = n.sale_no)
                OR NOT EXISTS (SELECT FROM coupon_sales b WHERE b.coupon_no = n.coupon_no))
        RETURNING n.at, c.claim
    )
    -- One row a place; a join would compare each with each.
    SELECT array_agg(each.claim ORDER BY each.at)
      FROM (SELECT at, max(claim) AS claim
              FROM (SELECT at, claim FROM taken UNION ALL SELECT generate_subscripts(p_sales, 1), NULL) AS all_of
             GROUP BY at) AS each
$$;

-- Judges one order by itself, in its turn; used when a batch is not clean as a whole. Returns the reason of a refusal or NULL.
DROP FUNCTION judge_order(integer, smallint, text, text, integer, bigint, bigint);
CREATE FUNCTION judge_order(p_shard smallint, p_sale integer, p_item smallint, p_order_id text, p_viewer text, p_key text,
                            p_quantity integer, p_price bigint, p_at_ms bigint, p_discount bigint, p_coupon integer,
                            p_claim_epoch integer, p_claim_seq bigint)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    i sale_items%ROWTYPE;
    s sales%ROWTYPE;
    claims_taken text[];
BEGIN
    SELECT * INTO s FROM sales WHERE sale_no = p_sale;
    SELECT * INTO i FROM sale_items WHERE sale_no = p_sale AND item_no = p_item;
    IF s.sale_no IS NULL OR i.sale_no IS NULL THEN RETURN 'unknown_item'; END IF;
    IF EXISTS (SELECT 1 FROM orders WHERE viewer = p_viewer AND sale_no = p_sale AND key = p_key) THEN
        RETURN 'key';
    END IF;
    IF s.hold <> 'active' OR p_at_ms < s.opens_at_ms OR p_at_ms >= s.closes_at_ms THEN RETURN 'window'; END IF;
    IF p_price <> price_at(i.price_minor, i.prices, p_at_ms) THEN RETURN 'price'; END IF;
    IF p_quantity + coalesce((SELECT units FROM holdings WHERE viewer = p_viewer AND sale_no = p_sale
                                 AND item_no = p_item), 0) > i.limit_per_viewer THEN
        RETURN 'limit';
    END IF;
    IF num_nonnulls(p_coupon, nullif(p_discount, 0)) > 0 THEN
        claims_taken := redeem_claims(p_shard, ARRAY[p_sale], ARRAY[p_item], ARRAY[p_order_id], ARRAY[p_viewer],
                                      ARRAY[p_quantity], ARRAY[p_price], ARRAY[p_at_ms], ARRAY[p_discount], ARRAY[p_coupon],
                                      ARRAY[p_claim_epoch], ARRAY[p_claim_seq]);
        IF claims_taken[1] IS NULL THEN RETURN 'coupon'; END IF;
    END IF;
    UPDATE sale_items SET held = held + p_quantity
     WHERE sale_no = p_sale AND item_no = p_item AND held + sold + p_quantity <= stock;
    IF NOT FOUND THEN
        -- What it was to redeem is free again.
        UPDATE claims SET state = 'confirmed', sale_no = NULL, order_id = NULL
         WHERE coupon_no = p_coupon AND epoch = p_claim_epoch AND seq = p_claim_seq;
        RETURN 'stock';
    END IF;
    INSERT INTO holdings AS h VALUES (p_viewer, p_sale, p_item, p_quantity, i.limit_per_viewer)
        ON CONFLICT (viewer, sale_no, item_no) DO UPDATE SET units = h.units + excluded.units;
    RETURN NULL;
END $$;

-- Applies the orders first..last of one shard's stream: moves the cursor, judges, inserts, all or nothing. The usual batch
-- is clean and is judged as a whole (one guarded update an item, one upsert a viewer and item); when a whole-batch
-- judgement fails, its writes are rolled back and each order is judged in its turn. The last four arrays are NULL where no
-- order names a claim: such a batch asks nothing about coupons.
DROP FUNCTION apply_orders(smallint, integer, bigint, bigint, bigint, bigint[], integer[], smallint[], text[], text[], text[],
                           text[], integer[], bigint[], bigint[], text[]);
DROP FUNCTION judge_orders(smallint, integer, bigint, bigint, bigint, bigint[], integer[], smallint[], text[], text[], text[],
                           text[], integer[], bigint[], bigint[], text[]);
CREATE FUNCTION judge_orders(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_seqs bigint[], p_sales integer[], p_items smallint[], p_order_ids text[], p_viewers text[], p_keys text[],
    p_fingerprints text[], p_quantities integer[], p_prices bigint[], p_at_ms bigint[], p_extras text[],
    p_discounts bigint[], p_coupons integer[], p_claim_epochs integer[], p_claim_seqs bigint[])
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
    claims_of  text[];
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
               AND CASE WHEN i.prices IS NULL THEN w.lowest = i.price_minor AND w.highest = i.price_minor
                        ELSE NOT EXISTS (
                            SELECT FROM (SELECT DISTINCT price, at_ms FROM unnest(p_sales, p_items, p_prices, p_at_ms)
                                           AS u(sale_no, item_no, price, at_ms)
                                          WHERE u.sale_no = i.sale_no AND u.item_no = i.item_no) AS each
                             WHERE each.price <> price_at(i.price_minor, i.prices, each.at_ms)) END
               AND s.hold = 'active' AND w.first_at >= s.opens_at_ms AND w.last_at < s.closes_at_ms
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM taken) INTO asked, granted;
        IF asked <> granted THEN RAISE EXCEPTION 'not clean' USING ERRCODE = 'PG002'; END IF;

        IF p_coupons IS NOT NULL THEN
            claims_of := redeem_claims(p_shard, p_sales, p_items, p_order_ids, p_viewers, p_quantities, p_prices, p_at_ms,
                                       p_discounts, p_coupons, p_claim_epochs, p_claim_seqs);
            IF EXISTS (SELECT FROM unnest(p_discounts, p_coupons, claims_of) AS u(discount, coupon_no, claim)
                        WHERE num_nonnulls(u.coupon_no, nullif(u.discount, 0)) > 0 AND u.claim IS NULL) THEN
                RAISE EXCEPTION 'not clean' USING ERRCODE = 'PG002';
            END IF;
        END IF;

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

        IF p_coupons IS NULL THEN
            INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status, epoch,
                                seq, created_at_ms, confirmed_at, pay_by, fingerprint, extra)
            SELECT u.sale_no, u.order_id, u.viewer, u.key, u.item_no, u.quantity, u.price, u.price * u.quantity,
                   'confirmed', p_epoch, u.seq, u.at_ms, now_is, now_is + make_interval(secs => s.pay_within_s),
                   u.fingerprint, u.extra
              FROM unnest(p_seqs, p_sales, p_items, p_order_ids, p_viewers, p_keys, p_fingerprints, p_quantities,
                          p_prices, p_at_ms, p_extras)
                   AS u(seq, sale_no, item_no, order_id, viewer, key, fingerprint, quantity, price, at_ms, extra)
              JOIN sales s ON s.sale_no = u.sale_no;
        ELSE
            INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, discount_minor, amount_minor,
                                status, epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint, extra, coupon_no,
                                claim_epoch, claim_seq, claim)
            SELECT u.sale_no, u.order_id, u.viewer, u.key, u.item_no, u.quantity, u.price, coalesce(u.discount, 0),
                   u.price * u.quantity - coalesce(u.discount, 0), 'confirmed', p_epoch, u.seq, u.at_ms, now_is,
                   now_is + make_interval(secs => s.pay_within_s), u.fingerprint, u.extra, u.coupon_no, u.claim_epoch,
                   u.claim_seq, u.claim
              FROM unnest(p_seqs, p_sales, p_items, p_order_ids, p_viewers, p_keys, p_fingerprints, p_quantities,
                          p_prices, p_at_ms, p_extras, p_discounts, p_coupons, p_claim_epochs, p_claim_seqs, claims_of)
                   AS u(seq, sale_no, item_no, order_id, viewer, key, fingerprint, quantity, price, at_ms, extra, discount,
                        coupon_no, claim_epoch, claim_seq, claim)
              JOIN sales s ON s.sale_no = u.sale_no;
        END IF;
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
                          p_prices, p_at_ms, p_extras, p_discounts, p_coupons, p_claim_epochs, p_claim_seqs)
                   AS u(seq, sale_no, item_no, order_id, viewer, key, fingerprint, quantity, price, at_ms, extra, discount,
                        coupon_no, claim_epoch, claim_seq)
              LEFT JOIN sales s ON s.sale_no = u.sale_no
             ORDER BY u.seq
        LOOP
            reason := judge_order(p_shard, o.sale_no, o.item_no, o.order_id, o.viewer, o.key, o.quantity, o.price, o.at_ms,
                                  coalesce(o.discount, 0), o.coupon_no, o.claim_epoch, o.claim_seq);
            IF reason IS NOT NULL THEN
                refused := refused || o.seq;
                reasons := reasons || reason;
                next_no := next_no + 1;
                INSERT INTO outbox (shard, no, sale_no, item_no, viewer, key, epoch, seq, quantity, coupon_no, claim_epoch,
                                    claim_seq)
                VALUES (p_shard, next_no, o.sale_no, o.item_no, o.viewer, o.key, p_epoch, o.seq, o.quantity, o.coupon_no,
                        o.claim_epoch, o.claim_seq);
            END IF;
            INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, discount_minor, amount_minor,
                                status, reason, epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint, extra,
                                coupon_no, claim_epoch, claim_seq, claim)
            VALUES (o.sale_no, o.order_id, o.viewer, CASE WHEN reason IS NULL THEN o.key END, o.item_no, o.quantity,
                    o.price, coalesce(o.discount, 0), o.price * o.quantity - coalesce(o.discount, 0),
                    CASE WHEN reason IS NULL THEN 'confirmed' ELSE 'refused' END, reason, p_epoch, o.seq, o.at_ms,
                    CASE WHEN reason IS NULL THEN now_is END,
                    CASE WHEN reason IS NULL THEN now_is + make_interval(secs => o.pay_within_s) END,
                    o.fingerprint, o.extra, o.coupon_no, o.claim_epoch, o.claim_seq,
                    (SELECT c.claim FROM claims c
                      WHERE c.coupon_no = o.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq));
        END LOOP;
        UPDATE shards SET outbox_no = next_no WHERE shard = p_shard;
    END IF;

    answer.confirmed_at_ms := (extract(epoch FROM now_is) * 1000)::bigint;
    SELECT array_agg(s.sale_no), array_agg(answer.confirmed_at_ms + s.pay_within_s * 1000)
      INTO answer.sales, answer.pay_by_ms
      FROM sales s WHERE s.sale_no IN (SELECT DISTINCT unnest(p_sales));
    answer.refused := refused;
    answer.reasons := reasons;
    IF p_coupons IS NOT NULL THEN
        SELECT array_agg(u.seq), array_agg(c.claim), array_agg(c.state)
          INTO answer.claimed_by, answer.claims, answer.claim_states
          FROM unnest(p_seqs, p_viewers, p_coupons, p_claim_epochs, p_claim_seqs) AS u(seq, viewer, coupon_no, epoch, claim_seq)
          LEFT JOIN claims c ON c.coupon_no = u.coupon_no AND c.epoch = u.epoch AND c.seq = u.claim_seq AND c.viewer = u.viewer
         WHERE u.coupon_no IS NOT NULL;
    END IF;
    RETURN answer;
END $$;

CREATE FUNCTION apply_orders(
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
    INSERT INTO deadlines (shard, pay_by, sale_no, first_id, last_id, orders)
    SELECT p_shard, to_timestamp((p.pay_by_ms + 1) / 1000.0), p.sale_no, o.first_id, o.last_id, o.orders
      FROM (SELECT sale_no, min(order_id COLLATE "C") AS first_id, max(order_id COLLATE "C") AS last_id, count(*) AS orders
              FROM unnest(p_sales, p_order_ids) AS u(sale_no, order_id) GROUP BY sale_no) o
      JOIN unnest(answer.sales, answer.pay_by_ms) AS p(sale_no, pay_by_ms) USING (sale_no);
    RETURN answer;
END $$;

-- Beside its entry, a parked order is a refused row; its claim, if it held one, is free again.
DROP FUNCTION park_order(smallint, integer, bigint, bigint, bigint, text, bytea, integer, smallint, text, text, text, text,
                         integer, bigint, bigint);
CREATE FUNCTION park_order(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint, p_reason text, p_entry bytea,
    p_sale integer, p_item smallint, p_order_id text, p_viewer text, p_key text, p_fingerprint text,
    p_quantity integer, p_price bigint, p_at_ms bigint, p_coupon integer, p_claim_epoch integer, p_claim_seq bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next_no bigint;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry)
        VALUES (p_shard, p_epoch, p_from + 1, p_to, p_reason, p_entry);
    INSERT INTO orders (sale_no, order_id, viewer, item_no, quantity, price_minor, amount_minor, status, reason, epoch,
                        seq, created_at_ms, fingerprint, coupon_no, claim_epoch, claim_seq)
        VALUES (p_sale, p_order_id, p_viewer, p_item, p_quantity, p_price, p_price * p_quantity, 'refused', 'data',
                p_epoch, p_to, p_at_ms, p_fingerprint, p_coupon, p_claim_epoch, p_claim_seq);
    UPDATE shards SET outbox_no = outbox_no + 1 WHERE shard = p_shard RETURNING outbox_no INTO next_no;
    INSERT INTO outbox (shard, no, sale_no, item_no, viewer, key, epoch, seq, quantity, coupon_no, claim_epoch, claim_seq)
        VALUES (p_shard, next_no, p_sale, p_item, p_viewer, p_key, p_epoch, p_to, p_quantity, p_coupon, p_claim_epoch,
                p_claim_seq);
END $$;

-- Judges one claim by itself, in its turn. Returns the reason of a refusal or NULL.
CREATE FUNCTION judge_claim(p_shard smallint, p_coupon integer, p_viewer text, p_key text, p_value bigint, p_at_ms bigint)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    k coupons%ROWTYPE;
BEGIN
    SELECT c.* INTO k FROM coupons c JOIN shops h USING (shop_no) WHERE c.coupon_no = p_coupon AND h.shard = p_shard;
    IF NOT FOUND THEN RETURN 'unknown_coupon'; END IF;
    IF EXISTS (SELECT FROM claims WHERE viewer = p_viewer AND coupon_no = p_coupon AND key = p_key) THEN RETURN 'key'; END IF;
    IF k.claim_from_ms IS NULL OR p_at_ms < k.claim_from_ms OR p_at_ms >= k.claim_until_ms THEN RETURN 'window'; END IF;
    IF 1 + coalesce((SELECT claims FROM coupon_holdings WHERE viewer = p_viewer AND coupon_no = p_coupon), 0)
       > k.limit_per_viewer THEN
        RETURN 'limit';
    END IF;
    IF k.claimed >= k.copies THEN RETURN 'copies'; END IF;
    IF k.kind = 'random' THEN
        IF p_value < k.min_minor OR p_value > k.max_minor THEN RETURN 'value'; END IF;
        IF k.spent_minor + p_value + (k.copies - k.claimed - 1) * k.min_minor > k.budget_minor THEN RETURN 'budget'; END IF;
    ELSIF p_value <> k.value_minor THEN RETURN 'value';
    END IF;
    UPDATE coupons SET claimed = claimed + 1, spent_minor = spent_minor + CASE WHEN kind = 'random' THEN p_value ELSE 0 END
     WHERE coupon_no = p_coupon;
    INSERT INTO coupon_holdings AS h VALUES (p_viewer, p_coupon, 1, k.limit_per_viewer)
        ON CONFLICT (viewer, coupon_no) DO UPDATE SET claims = h.claims + 1;
    RETURN NULL;
END $$;

CREATE TYPE applied_claims AS (
    refused bigint[],            -- sequence numbers that were refused, and why
    reasons text[]
);

-- Applies the claims first..last of one shard's stream, as `apply_orders` does with orders.
CREATE FUNCTION apply_claims(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_seqs bigint[], p_coupons integer[], p_claims text[], p_viewers text[], p_keys text[], p_values bigint[],
    p_at_ms bigint[])
RETURNS applied_claims LANGUAGE plpgsql AS $$
DECLARE
    asked   integer;
    granted integer;
    beyond  integer;
    clean   boolean := false;
    reason  text;
    o       record;
    refused bigint[] := '{}';
    reasons text[] := '{}';
    now_is  timestamptz;
    next_no bigint;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    now_is := clock_timestamp();
    BEGIN
        WITH wanted AS (
            SELECT coupon_no, count(*)::integer AS copies, sum(value)::bigint AS value, min(value) AS lowest,
                   max(value) AS highest, min(at_ms) AS first_at, max(at_ms) AS last_at
              FROM unnest(p_coupons, p_values, p_at_ms) AS u(coupon_no, value, at_ms)
             GROUP BY coupon_no ORDER BY coupon_no
        ), taken AS (
            UPDATE coupons k
               SET claimed = k.claimed + w.copies,
                   spent_minor = k.spent_minor + CASE WHEN k.kind = 'random' THEN w.value ELSE 0 END
              FROM wanted w, shops h
             WHERE k.coupon_no = w.coupon_no AND h.shop_no = k.shop_no AND h.shard = p_shard
               AND k.claimed + w.copies <= k.copies
               AND CASE WHEN k.kind = 'random' THEN w.lowest >= k.min_minor AND w.highest <= k.max_minor
                        ELSE w.lowest = k.value_minor AND w.highest = k.value_minor END
               AND w.first_at >= k.claim_from_ms AND w.last_at < k.claim_until_ms
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM taken) INTO asked, granted;
        IF asked <> granted THEN RAISE EXCEPTION 'not clean' USING ERRCODE = 'PG002'; END IF;

        WITH more AS (
            INSERT INTO coupon_holdings AS h
            SELECT u.viewer, u.coupon_no, count(*), k.limit_per_viewer
              FROM unnest(p_viewers, p_coupons) AS u(viewer, coupon_no)
              JOIN coupons k ON k.coupon_no = u.coupon_no
             GROUP BY u.viewer, u.coupon_no, k.limit_per_viewer
            ON CONFLICT (viewer, coupon_no) DO UPDATE SET claims = h.claims + excluded.claims
            RETURNING 1
        )
        SELECT count(*) FROM more INTO beyond;

        INSERT INTO claims (coupon_no, epoch, seq, claim, viewer, key, value_minor, state, at_ms, confirmed_at)
        SELECT u.coupon_no, p_epoch, u.seq, u.claim, u.viewer, u.key, u.value, 'confirmed', u.at_ms, now_is
          FROM unnest(p_seqs, p_coupons, p_claims, p_viewers, p_keys, p_values, p_at_ms)
               AS u(seq, coupon_no, claim, viewer, key, value, at_ms);
        clean := true;
    EXCEPTION
        -- Our own signal, or a budget (CHECK of coupons), limit (CHECK of coupon_holdings) or key (UNIQUE of claims) that
        -- the whole batch does not keep.
        WHEN SQLSTATE 'PG002' OR check_violation OR unique_violation OR cardinality_violation THEN
            clean := false;
    END;

    IF NOT clean THEN
        UPDATE shards SET outbox_no = outbox_no WHERE shard = p_shard RETURNING outbox_no INTO next_no;
        FOR o IN
            SELECT u.* FROM unnest(p_seqs, p_coupons, p_claims, p_viewers, p_keys, p_values, p_at_ms)
                              AS u(seq, coupon_no, claim, viewer, key, value, at_ms)
             ORDER BY u.seq
        LOOP
            reason := judge_claim(p_shard, o.coupon_no, o.viewer, o.key, o.value, o.at_ms);
            IF reason IS NOT NULL THEN
                refused := refused || o.seq;
                reasons := reasons || reason;
                next_no := next_no + 1;
                INSERT INTO outbox (shard, no, item_no, viewer, key, epoch, seq, quantity, kind, coupon_no, claim_epoch,
                                    claim_seq)
                VALUES (p_shard, next_no, 0, o.viewer, o.key, p_epoch, o.seq, 1, 'unclaim', o.coupon_no, p_epoch, o.seq);
            END IF;
            INSERT INTO claims (coupon_no, epoch, seq, claim, viewer, key, value_minor, state, reason, at_ms, confirmed_at)
            VALUES (o.coupon_no, p_epoch, o.seq, o.claim, o.viewer, CASE WHEN reason IS NULL THEN o.key END, o.value,
                    CASE WHEN reason IS NULL THEN 'confirmed' ELSE 'refused' END, reason, o.at_ms,
                    CASE WHEN reason IS NULL THEN now_is END);
        END LOOP;
        UPDATE shards SET outbox_no = next_no WHERE shard = p_shard;
    END IF;
    RETURN (refused, reasons)::applied_claims;
END $$;

-- Moves the cursor past a claim that the ledger cannot take: beside the entry, kept for people, it is a refused row. What
-- Valkey took for it goes back by the outbox, so nothing has to be recounted.
CREATE FUNCTION park_claim(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint, p_reason text, p_entry bytea,
    p_coupon integer, p_claim text, p_viewer text, p_key text, p_value bigint, p_at_ms bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next_no bigint;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry)
        VALUES (p_shard, p_epoch, p_from + 1, p_to, p_reason, p_entry);
    INSERT INTO claims (coupon_no, epoch, seq, claim, viewer, value_minor, state, reason, at_ms)
        VALUES (p_coupon, p_epoch, p_to, p_claim, p_viewer, p_value, 'refused', 'data', p_at_ms);
    UPDATE shards SET outbox_no = outbox_no + 1 WHERE shard = p_shard RETURNING outbox_no INTO next_no;
    INSERT INTO outbox (shard, no, item_no, viewer, key, epoch, seq, quantity, kind, coupon_no, claim_epoch, claim_seq)
        VALUES (p_shard, next_no, 0, p_viewer, p_key, p_epoch, p_to, 1, 'unclaim', p_coupon, p_epoch, p_to);
END $$;

-- Applies one act on a coupon. Returns whether it took effect: what the ledger cannot take is stored with after = NULL and
-- changes nothing; since Valkey has it in force, the shard has to be recounted.
CREATE FUNCTION apply_coupon_act(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_coupon integer, p_act text, p_room integer, p_until_ms bigint, p_actor text, p_at_ms bigint,
    p_effect_kind text, p_effect_key text, p_effect_fingerprint text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was    text;
    became text;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    IF NOT EXISTS (SELECT FROM effects e JOIN coupons k ON k.shop_no = e.shop_no
                    WHERE k.coupon_no = p_coupon AND e.caller = p_actor AND e.kind = p_effect_kind
                      AND e.key = p_effect_key) THEN
        SELECT concat(claim_from_ms, ' ', claim_until_ms) INTO was FROM coupons WHERE coupon_no = p_coupon;
        UPDATE coupons k
           SET claim_from_ms = least(claim_from_ms, p_at_ms), claim_until_ms = p_until_ms, dropped_room_no = p_room,
               changed_at = clock_timestamp()
         WHERE k.coupon_no = p_coupon AND p_act = 'drop' AND p_at_ms < p_until_ms AND p_until_ms <= k.valid_until_ms
           AND (p_room IS NULL OR EXISTS (SELECT FROM rooms r WHERE r.room_no = p_room AND r.shop_no = k.shop_no))
        RETURNING concat(claim_from_ms, ' ', claim_until_ms) INTO became;
    END IF;
    INSERT INTO coupon_acts VALUES (p_shard, p_epoch, p_to, p_coupon, p_room, p_act, p_actor, p_at_ms, was, became);
    IF became IS NULL THEN
        UPDATE shards SET wants = coalesce(wants, 'act') WHERE shard = p_shard;
    ELSIF p_effect_key IS NOT NULL THEN
        INSERT INTO effects (shop_no, caller, kind, key, fingerprint, object)
        SELECT shop_no, p_actor, p_effect_kind, p_effect_key, p_effect_fingerprint, coupon FROM coupons
         WHERE coupon_no = p_coupon
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN became IS NOT NULL;
END $$;

-- One control act of the stream on a sale, now also a plan of an item's price and another window. A price ends the item's
-- plan; what that was stands behind the price before. What the ledger cannot take is stored with after = NULL, see 0002.
DROP FUNCTION apply_act(smallint, integer, bigint, bigint, bigint, integer, text, smallint, bigint, text, bigint, text, text,
                        text, text);
CREATE FUNCTION apply_act(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_sale integer, p_act text, p_item smallint, p_value bigint, p_actor text, p_at_ms bigint,
    p_effect_kind text, p_effect_key text, p_effect_fingerprint text, p_reason text, p_text text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was text;
    became text;
    plan record;
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
        SELECT concat_ws(' ', price_minor, nullif(plan_text(prices), '')) INTO was
          FROM sale_items WHERE sale_no = p_sale AND item_no = p_item;
        UPDATE sale_items SET price_minor = p_value, prices = NULL
         WHERE sale_no = p_sale AND item_no = p_item AND p_value >= coalesce(floor_minor, 0)
        RETURNING price_minor::text INTO became;
    ELSIF p_act = 'plan' THEN
        SELECT plan_text(prices) INTO was FROM sale_items WHERE sale_no = p_sale AND item_no = p_item;
        SELECT jsonb_agg(jsonb_build_array(each.from_ms, each.price) ORDER BY each.at) AS prices, min(each.price) AS lowest,
               max(each.price) AS highest, bool_and(each.from_ms > each.before) IS NOT FALSE AS in_order
          INTO plan
          FROM (SELECT steps.*, lag(from_ms) OVER (ORDER BY at) AS before
                  FROM (SELECT at, split_part(step, ':', 1)::bigint AS from_ms, split_part(step, ':', 2)::bigint AS price
                          FROM unnest(string_to_array(p_text, ';')) WITH ORDINALITY AS u(step, at)) AS steps) AS each;
        UPDATE sale_items SET prices = plan.prices
         WHERE sale_no = p_sale AND item_no = p_item AND plan.in_order
           AND (plan.prices IS NULL OR plan.lowest >= coalesce(floor_minor, 0) AND plan.highest <= 9000000000000)
        RETURNING plan_text(prices) INTO became;
    ELSIF p_act = 'window' THEN
        SELECT concat(opens_at_ms, ' ', closes_at_ms) INTO was FROM sales WHERE sale_no = p_sale;
        UPDATE sales SET opens_at_ms = p_value, closes_at_ms = p_text::bigint
         WHERE sale_no = p_sale AND hold <> 'closed' AND closes_at_ms > p_at_ms
           AND p_text::bigint > greatest(p_value, p_at_ms)
        RETURNING concat(opens_at_ms, ' ', closes_at_ms) INTO became;
    ELSE
        SELECT concat(hold, ' ', opens_at_ms) INTO was FROM sales WHERE sale_no = p_sale;
        UPDATE sales
           SET hold = CASE p_act WHEN 'pause' THEN 'paused' WHEN 'close' THEN 'closed' ELSE 'active' END,
               opens_at_ms = CASE WHEN p_act = 'open' THEN least(opens_at_ms, p_at_ms) ELSE opens_at_ms END
         WHERE sale_no = p_sale AND hold <> 'closed'
        RETURNING concat(hold, ' ', opens_at_ms) INTO became;
    END IF;
    IF became IS NOT NULL AND p_act <> 'stock' THEN
        UPDATE sales SET changed_at = clock_timestamp() WHERE sale_no = p_sale;
    END IF;
    INSERT INTO acts VALUES (p_shard, p_epoch, p_to, p_sale, p_act, p_actor, p_at_ms, was, became, p_reason);
    IF became IS NULL AND p_act IN ('stock', 'price', 'plan', 'window') THEN
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

-- Moves the units of orders whose status was changed already, gives the claims back of those that did not end as sold, and
-- tells Valkey through the outbox. The caller holds the shard's row lock.
CREATE OR REPLACE FUNCTION move_units(p_shard smallint, p_kind text, p_orders moved_order[]) RETURNS void
LANGUAGE plpgsql AS $$
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
        IF EXISTS (SELECT FROM unnest(p_orders) WHERE coupon_no IS NOT NULL) THEN PERFORM free_claims(p_orders); END IF;
    END IF;
    UPDATE shards SET outbox_no = outbox_no + cardinality(p_orders) WHERE shard = p_shard RETURNING outbox_no INTO last_no;
    INSERT INTO outbox (shard, no, sale_no, item_no, viewer, key, epoch, seq, quantity, kind, coupon_no, claim_epoch,
                        claim_seq)
    SELECT p_shard, last_no - cardinality(p_orders) + m.at, m.sale_no, m.item_no, m.viewer, m.key, m.epoch, m.seq, m.quantity,
           p_kind, CASE WHEN p_kind <> 'paid' THEN m.coupon_no END, CASE WHEN p_kind <> 'paid' THEN m.claim_epoch END,
           CASE WHEN p_kind <> 'paid' THEN m.claim_seq END
      FROM unnest(p_orders) WITH ORDINALITY
           AS m(sale_no, item_no, order_id, viewer, key, epoch, seq, quantity, coupon_no, claim_epoch, claim_seq, at);
END $$;

-- The claims that these orders redeem are free again.
CREATE FUNCTION free_claims(p_orders moved_order[]) RETURNS void LANGUAGE sql
-- A claim is found by its key, however few rows the planner believes the table to have.
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
    UPDATE claims c SET state = 'confirmed', sale_no = NULL, order_id = NULL
      FROM unnest(p_orders) m
     WHERE c.coupon_no = m.coupon_no AND c.epoch = m.claim_epoch AND c.seq = m.claim_seq AND c.state = 'redeemed'
       AND c.sale_no = m.sale_no AND c.order_id = m.order_id
$$;

-- How the claim of an order that ended is told: what was not used in time has expired.
CREATE FUNCTION freed_state(p_coupon integer) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN valid_until_ms > (extract(epoch FROM clock_timestamp()) * 1000)::bigint THEN 'confirmed' ELSE 'expired' END
      FROM coupons WHERE coupon_no = p_coupon
$$;

-- Ends orders whose deadline has passed, about p_most of them (a deadline's orders end together); those paid meanwhile are
-- left alone. One row an order ended, with the claim that is free again.
DROP FUNCTION expire_orders(smallint, integer, timestamptz);
DROP FUNCTION end_due_orders(smallint, integer);
CREATE FUNCTION end_due_orders(p_shard smallint, p_most integer)
RETURNS TABLE (shop text, viewer text, order_id text, sale_no integer, claim text, claim_state text) LANGUAGE plpgsql
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
        RETURNING o.sale_no, o.item_no, o.order_id, o.viewer, o.key, o.epoch, o.seq, o.quantity, o.coupon_no, o.claim_epoch,
                  o.claim_seq
    )
    SELECT array_agg((e.sale_no, e.item_no, e.order_id, e.viewer, e.key, e.epoch, e.seq, e.quantity, e.coupon_no,
                      e.claim_epoch, e.claim_seq)::moved_order)
      INTO ended FROM expired e;
    PERFORM move_units(p_shard, 'release', ended);
    RETURN QUERY SELECT h.shop, m.viewer, m.order_id, m.sale_no, c.claim, freed_state(c.coupon_no)
      FROM unnest(ended) m JOIN sales s ON s.sale_no = m.sale_no JOIN shops h ON h.shop_no = s.shop_no
      LEFT JOIN claims c ON c.coupon_no = m.coupon_no AND c.epoch = m.claim_epoch AND c.seq = m.claim_seq;
END $$;

CREATE FUNCTION expire_orders(p_shard smallint, p_most integer, p_not_after timestamptz DEFAULT 'infinity')
RETURNS TABLE (shop text, viewer text, order_id text, sale_no integer, claim text, claim_state text) LANGUAGE plpgsql AS $$
BEGIN
    -- The lock is waited for before the clock is looked at.
    PERFORM FROM shards s WHERE s.shard = p_shard FOR UPDATE;
    IF clock_timestamp() > p_not_after THEN RETURN; END IF;
    RETURN QUERY SELECT * FROM end_due_orders(p_shard, p_most);
END $$;

-- Brings an expired order back with the payment that waits for it, if the ledger still has a unit, room under the viewer's
-- limit, and its claim free; else the money is to be refunded. Returns whether it came back. The caller holds the shard's
-- row lock and sees to Valkey.
CREATE OR REPLACE FUNCTION revive_order(p_payment_no bigint) RETURNS boolean LANGUAGE plpgsql AS $$
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
    ELSIF o.coupon_no IS NOT NULL AND NOT EXISTS (
        SELECT FROM claims c WHERE c.coupon_no = o.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq
           AND c.state = 'confirmed') THEN
        why := 'coupon';
    ELSE
        UPDATE sale_items SET sold = sold + o.quantity
         WHERE sale_no = o.sale_no AND item_no = o.item_no AND held + sold + o.quantity <= stock;
        IF NOT FOUND THEN why := 'stock'; END IF;
    END IF;
    IF why IS NOT NULL THEN
        PERFORM refund_late(p_payment_no, why);
        RETURN false;
    END IF;
    IF o.coupon_no IS NOT NULL THEN
        UPDATE claims SET state = 'redeemed', sale_no = o.sale_no, order_id = o.order_id
         WHERE coupon_no = o.coupon_no AND epoch = o.claim_epoch AND seq = o.claim_seq;
    END IF;
    UPDATE holdings SET units = units + o.quantity
     WHERE viewer = o.viewer AND sale_no = o.sale_no AND item_no = o.item_no;
    UPDATE orders SET status = 'paid' WHERE sale_no = o.sale_no AND order_id = o.order_id;
    UPDATE payments SET state = 'applied' WHERE payment_no = p_payment_no;
    RETURN true;
END $$;

-- Applies one revival of the stream. Answers the order's status, and the claim it redeems again. Where the ledger does not
-- take it, the units and the claim that Valkey took for it come back.
DROP FUNCTION apply_late(smallint, integer, bigint, bigint, bigint, integer, bigint, smallint, text, text, integer);
CREATE FUNCTION apply_late(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint,
    p_sale integer, p_payment_no bigint, p_item smallint, p_viewer text, p_order_id text, p_quantity integer,
    OUT status text, OUT claim text)
LANGUAGE plpgsql AS $$
DECLARE
    came_back boolean;
    last_no   bigint;
    o         orders%ROWTYPE;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    came_back := revive_order(p_payment_no);
    INSERT INTO revivals VALUES (p_shard, p_epoch, p_to, p_payment_no, p_sale, came_back);
    SELECT * INTO o FROM orders x WHERE x.sale_no = p_sale AND x.order_id = p_order_id;
    IF NOT came_back THEN
        UPDATE shards SET outbox_no = outbox_no + 1 WHERE shard = p_shard RETURNING outbox_no INTO last_no;
        -- Valkey holds a claim for an order by the place of the order.
        INSERT INTO outbox (shard, no, sale_no, item_no, viewer, key, epoch, seq, quantity, kind, coupon_no, claim_epoch,
                            claim_seq)
        VALUES (p_shard, last_no, p_sale, p_item, p_viewer, NULL, CASE WHEN o.coupon_no IS NULL THEN p_epoch ELSE o.epoch END,
                CASE WHEN o.coupon_no IS NULL THEN p_to ELSE o.seq END, p_quantity, 'return', o.coupon_no, o.claim_epoch,
                o.claim_seq);
    END IF;
    status := o.status;
    claim := CASE WHEN came_back THEN o.claim END;
END $$;

-- Applies what was asked of single orders of a shard's shops, each in its turn. p_acts is an array of objects:
--   do        pay | refund | cancel
--   shop_no, order, sale (null: of no order of this shop), amount, currency, provider, txn, paid_at_ms
--   keep      pay: money the order cannot take was received all the same and is kept as refund_due (a provider's notice);
--             else such a report is answered and changes nothing where its amount is wrong or there is no such order
--   viewer    cancel: whose order it must be
--   caller, key, fingerprint  the idempotency key of the report, or null
-- Words: done | replayed | key_reused | txn_reused | not_found | amount_mismatch | no_payment | waiting | conflict
-- `changed` says that the order's status is a new one; `claim` is one that is free again with it.
DROP FUNCTION settle(smallint, jsonb);
CREATE FUNCTION settle(p_shard smallint, p_acts jsonb)
RETURNS TABLE (place integer, word text, shop text, viewer text, order_id text, status text, changed boolean, claim text,
               claim_state text)
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
        place := a.place; word := NULL; became := NULL; claim := NULL; claim_state := NULL;
        o := NULL; s := NULL;
        SELECT * INTO s FROM sales x WHERE x.sale_no = a.sale AND x.shop_no = a.shop_no;
        SELECT * INTO o FROM orders x WHERE x.sale_no = s.sale_no AND x.order_id = a."order";
        found_it := FOUND;
        SELECT x.shop INTO shop FROM shops x WHERE x.shop_no = a.shop_no;
        this_one := (o.sale_no, o.item_no, o.order_id, o.viewer, o.key, o.epoch, o.seq, o.quantity, o.coupon_no, o.claim_epoch,
                     o.claim_seq)::moved_order;
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
                word := 'done'; became := 'cancelled'; ended := ended || this_one; claim := o.claim;
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
                    became := 'refunded'; back := back || this_one; claim := o.claim;
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
        IF claim IS NOT NULL THEN claim_state := freed_state(o.coupon_no); END IF;
        viewer := o.viewer; order_id := a."order"; status := coalesce(became, o.status); changed := became IS NOT NULL;
        RETURN NEXT;
    END LOOP;
    PERFORM move_units(p_shard, 'paid', paid);
    PERFORM move_units(p_shard, 'release', ended);
    PERFORM move_units(p_shard, 'return', back);
END $$;
