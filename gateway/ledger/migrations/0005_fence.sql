-- A rebuild takes its token before it shuts a shard, and ends the epoch under it: one that was overtaken in between ends
-- nothing.

DROP FUNCTION next_epoch(smallint, integer, bigint, integer, text, text, text);

-- Ends the epoch of a shard whose cursor stands where the caller drained it to, and begins another on the server named.
-- Returns the token of the rebuild. Raises PG003 when the shard does not stand there any more,
-- or a later rebuild has begun.
CREATE FUNCTION next_epoch(p_shard smallint, p_epoch integer, p_last_seq bigint, p_token bigint, p_next integer,
                           p_run_id text, p_why text, p_how text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    was shards%ROWTYPE;
BEGIN
    SELECT * INTO was FROM shards WHERE shard = p_shard FOR UPDATE;
    IF was.epoch <> p_epoch OR was.last_seq <> p_last_seq OR was.load_token <> p_token THEN
        RAISE EXCEPTION 'shard % is not at epoch % sequence number % under rebuild %', p_shard, p_epoch, p_last_seq, p_token
            USING ERRCODE = 'PG003';
    END IF;
    INSERT INTO epochs (shard, epoch, last_seq, run_id, why, how)
        VALUES (p_shard, was.epoch, was.last_seq, was.run_id, p_why, p_how);
    UPDATE shards SET epoch = p_next, last_seq = 0, run_id = p_run_id, reopen = p_how,
           wants = CASE WHEN p_how = 'recount' THEN NULL ELSE wants END, load_token = was.load_token + 1
     WHERE shard = p_shard;
    RETURN was.load_token + 1;
END $$;
