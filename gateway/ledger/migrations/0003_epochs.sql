-- Epochs: the ledger's word on which server's counters a shard sells from, and what was lost on the way. An epoch begins
-- when the ledger says so, under the shard's row lock; Valkey follows. So a writer, a settlement and a rebuild of one
-- shard come one after the other, and whoever still stands in the epoch before finds its cursor gone.

ALTER TABLE shards
    ADD COLUMN run_id     text,                          -- the Valkey server of the epoch; NULL: not known yet
    ADD COLUMN reopen     text CHECK (reopen IN ('advance', 'recount')),  -- the epoch began, Valkey does not sell in it yet
    ADD COLUMN load_token bigint NOT NULL DEFAULT 0,     -- grows with every rebuild; fences the one before in Valkey
    ADD COLUMN wants      text;                          -- why the shard must be recounted, though Valkey looks well

-- Epochs that ended: how far the ledger applied each. What its stream promised beyond that was lost.
CREATE TABLE epochs (
    shard       smallint NOT NULL REFERENCES shards,
    epoch       integer NOT NULL,
    last_seq    bigint NOT NULL,
    run_id      text,                                    -- the server it ended on
    why         text NOT NULL,
    how         text NOT NULL,                           -- the next one began by: advance | recount
    ended_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    reopened_at timestamptz,                             -- when the next one sold
    orders      bigint,                                  -- answers that were loaded for it
    PRIMARY KEY (shard, epoch)
);

-- Sequence numbers that the stream skipped; with orders, acts, revivals and parked entries they account for every number.
CREATE TABLE lost_seqs (
    shard     smallint NOT NULL REFERENCES shards,
    epoch     integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL CHECK (last_seq >= first_seq),
    found_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, epoch, first_seq)
);

-- Moves the cursor over numbers that the stream does not have. Valkey took units for them, so it has to be recounted.
CREATE FUNCTION skip_lost(p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    INSERT INTO lost_seqs (shard, epoch, first_seq, last_seq) VALUES (p_shard, p_epoch, p_from + 1, p_to);
    UPDATE shards SET wants = coalesce(wants, 'gap') WHERE shard = p_shard;
END $$;

-- Moves the cursor past an entry that the ledger cannot take; it is kept for people. What Valkey took for it the ledger
-- does not have, so the shard has to be recounted.
CREATE OR REPLACE FUNCTION park_entry(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint, p_reason text, p_entry bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry)
        VALUES (p_shard, p_epoch, p_from + 1, p_to, p_reason, p_entry);
    UPDATE shards SET wants = coalesce(wants, 'parked') WHERE shard = p_shard;
END $$;

-- The same for late money. Its order cannot be brought back, and asking Valkey again would end here again.
CREATE FUNCTION park_late(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint, p_reason text, p_entry bytea,
    p_payment_no bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM park_entry(p_shard, p_epoch, p_from, p_to, p_token, p_reason, p_entry);
    PERFORM refund_late(p_payment_no, 'data');
END $$;

-- The same for one order: beside the entry it is a refused row, so that it can be asked for. Its units go back by the
-- outbox, so nothing has to be recounted.
CREATE OR REPLACE FUNCTION park_order(
    p_shard smallint, p_epoch integer, p_from bigint, p_to bigint, p_token bigint, p_reason text, p_entry bytea,
    p_sale integer, p_item smallint, p_order_id text, p_viewer text, p_key text, p_fingerprint text,
    p_quantity integer, p_price bigint, p_at_ms bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next_no bigint;
BEGIN
    PERFORM move_cursor(p_shard, p_epoch, p_from, p_to, p_token);
    INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry)
        VALUES (p_shard, p_epoch, p_from + 1, p_to, p_reason, p_entry);
    INSERT INTO orders (sale_no, order_id, viewer, item_no, quantity, price_minor, amount_minor, status, reason, epoch,
                        seq, created_at_ms, fingerprint)
        VALUES (p_sale, p_order_id, p_viewer, p_item, p_quantity, p_price, p_price * p_quantity, 'refused', 'data',
                p_epoch, p_to, p_at_ms, p_fingerprint);
    UPDATE shards SET outbox_no = outbox_no + 1 WHERE shard = p_shard RETURNING outbox_no INTO next_no;
    INSERT INTO outbox (shard, no, sale_no, item_no, viewer, key, epoch, seq, quantity)
        VALUES (p_shard, next_no, p_sale, p_item, p_viewer, p_key, p_epoch, p_to, p_quantity);
END $$;

-- Ends the epoch of a shard whose cursor stands where the caller drained it to, and begins another on the server named.
-- Returns the token of the rebuild. Raises PG003 when the shard does not stand there any more.
CREATE FUNCTION next_epoch(p_shard smallint, p_epoch integer, p_last_seq bigint, p_next integer, p_run_id text,
                           p_why text, p_how text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    was shards%ROWTYPE;
BEGIN
    SELECT * INTO was FROM shards WHERE shard = p_shard FOR UPDATE;
    IF was.epoch <> p_epoch OR was.last_seq <> p_last_seq THEN
        RAISE EXCEPTION 'shard % is not at epoch % sequence number %', p_shard, p_epoch, p_last_seq USING ERRCODE = 'PG003';
    END IF;
    INSERT INTO epochs (shard, epoch, last_seq, run_id, why, how)
        VALUES (p_shard, was.epoch, was.last_seq, was.run_id, p_why, p_how);
    UPDATE shards SET epoch = p_next, last_seq = 0, run_id = p_run_id, reopen = p_how,
           wants = CASE WHEN p_how = 'recount' THEN NULL ELSE wants END, load_token = was.load_token + 1
     WHERE shard = p_shard;
    RETURN was.load_token + 1;
END $$;
