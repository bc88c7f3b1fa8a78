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
