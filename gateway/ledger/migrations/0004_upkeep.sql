-- What keeps a long-lived ledger and its Valkey in order: sales that are over leave Valkey, deadlines survive a clock that
-- was set.

-- A sale that is over goes through three instants: nothing of it can change any more but by refunds and late money
-- (settled), everyone asks the ledger for its keys (retired), Valkey has forgotten it (dropped).
ALTER TABLE sales
    ADD COLUMN settled_at timestamptz,
    ADD COLUMN retired_at timestamptz,
    ADD COLUMN dropped_at timestamptz;
CREATE INDEX sales_not_dropped ON sales (sale_no) WHERE dropped_at IS NULL;

-- How many times a shard's deadlines were moved because PostgreSQL's clock was set, and by how much in all.
ALTER TABLE shards
    ADD COLUMN clock_steps    integer NOT NULL DEFAULT 0,
    ADD COLUMN clock_shift_ms bigint NOT NULL DEFAULT 0;

CREATE TABLE clock_steps (
    shard  smallint NOT NULL REFERENCES shards,
    step   integer NOT NULL,
    by_ms  bigint NOT NULL,                              -- how far the clock is from where it was trusted before
    orders integer NOT NULL,                             -- whose deadlines were moved
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, step)
);

-- What a machine's monotonic clock was compared with while the servers' clocks were trusted: its next keeper sees by it
-- that a clock was set while there was none.
CREATE TABLE clock_notes (
    machine        text COLLATE "C" NOT NULL,
    shard          smallint NOT NULL REFERENCES shards,
    at_s           double precision NOT NULL,            -- on the monotonic clock
    valkey_s       double precision NOT NULL,            -- the servers' clocks less the monotonic clock
    ledger_s       double precision NOT NULL,
    epoch          integer NOT NULL,
    last_seq       bigint NOT NULL,
    clock_steps    integer NOT NULL,
    clock_shift_ms bigint NOT NULL,
    noted_at       timestamptz NOT NULL,
    PRIMARY KEY (machine, shard)
);

-- Moves the running deadlines of a shard onto a clock that was set. Orders behind one place of the stream and up to another
-- have theirs moved by so much, one set an element of the arrays: those confirmed by one clock. p_steps and p_shift_ms are
-- what the caller knew to be moved before the clock was set. Where another keeper moved deadlines since then, only what
-- is left of p_total_ms is moved, for what was confirmed up to p_epoch, p_last_seq. Returns how many orders were moved.
CREATE FUNCTION move_deadlines(
    p_shard smallint, p_steps integer, p_shift_ms bigint, p_epoch integer, p_last_seq bigint, p_total_ms bigint,
    p_after_epochs integer[], p_after_seqs bigint[], p_epochs integer[], p_seqs bigint[], p_by_ms bigint[])
RETURNS integer LANGUAGE plpgsql
-- A range is read through the primary key, however few rows the planner believes the table to have.
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    now_is    shards%ROWTYPE;
    left_ms   bigint := p_total_ms;
    moved     integer := 0;
    these     integer;
    r         record;
BEGIN
    SELECT * INTO now_is FROM shards WHERE shard = p_shard FOR UPDATE;
    IF now_is.clock_steps <> p_steps THEN
        left_ms := p_total_ms - (now_is.clock_shift_ms - p_shift_ms);
        -- Two keepers measure the same step a few milliseconds apart.
        IF abs(left_ms) <= 1000 THEN RETURN 0; END IF;
        p_after_epochs := '{0}'; p_after_seqs := '{0}'; p_epochs := array[p_epoch]; p_seqs := array[p_last_seq];
        p_by_ms := array[left_ms];
    END IF;
    FOR r IN SELECT u.*, make_interval(secs => u.by_ms / 1000.0) AS moves
               FROM unnest(p_after_epochs, p_after_seqs, p_epochs, p_seqs, p_by_ms)
                    AS u(after_epoch, after_seq, epoch, seq, by_ms)
    LOOP
        -- All orders of a deadline stand in one batch, so where its first one stands they all stand.
        WITH set AS (
            SELECT d.* FROM deadlines d JOIN orders o ON o.sale_no = d.sale_no AND o.order_id = d.first_id
             WHERE d.shard = p_shard AND (o.epoch, o.seq) > (r.after_epoch, r.after_seq) AND (o.epoch, o.seq) <= (r.epoch, r.seq)
        ), later AS (
            UPDATE deadlines d SET pay_by = d.pay_by + r.moves FROM set
             WHERE d.shard = p_shard AND d.pay_by = set.pay_by AND d.sale_no = set.sale_no AND d.first_id = set.first_id
        ), orders_moved AS (
            -- Both instants are read on the new clock from here on.
            UPDATE orders o SET pay_by = o.pay_by + r.moves, confirmed_at = o.confirmed_at + r.moves FROM set
             WHERE o.sale_no = set.sale_no AND o.order_id >= set.first_id AND o.order_id <= set.last_id
               AND o.status = 'confirmed'
               AND (o.epoch, o.seq) > (r.after_epoch, r.after_seq) AND (o.epoch, o.seq) <= (r.epoch, r.seq)
            RETURNING 1
        )
        SELECT count(*) INTO these FROM orders_moved;
        moved := moved + these;
    END LOOP;
    -- A clock set back would have left the lease of a dead writer in the future.
    UPDATE shards SET clock_steps = clock_steps + 1, clock_shift_ms = clock_shift_ms + left_ms,
           lease_until = least(lease_until, clock_timestamp() + interval '5 seconds')
     WHERE shard = p_shard;
    INSERT INTO clock_steps (shard, step, by_ms, orders) VALUES (p_shard, now_is.clock_steps + 1, left_ms, moved);
    RETURN moved;
END $$;

-- Expiry is judged by PostgreSQL's clock, which the keeper believes up to a time: past that the clock was set since it was
-- looked at, and nothing ends by it.
ALTER FUNCTION expire_orders(smallint, integer) RENAME TO end_due_orders;

CREATE FUNCTION expire_orders(p_shard smallint, p_most integer, p_not_after timestamptz DEFAULT 'infinity')
RETURNS TABLE (shop text, viewer text, order_id text, sale_no integer) LANGUAGE plpgsql AS $$
BEGIN
    -- The lock is waited for before the clock is looked at.
    PERFORM FROM shards s WHERE s.shard = p_shard FOR UPDATE;
    IF clock_timestamp() > p_not_after THEN RETURN; END IF;
    RETURN QUERY SELECT * FROM end_due_orders(p_shard, p_most);
END $$;
