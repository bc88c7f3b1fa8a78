-- The queries of clocks.py.

-- name: now
-- PostgreSQL's clock, and where each shard stands by it.
SELECT shard, epoch, last_seq, clock_steps, clock_shift_ms, extract(epoch FROM clock_timestamp())::float8 AS now_s
  FROM shards;

-- name: move
SELECT move_deadlines($1::int2, $2, $3, $4, $5, $6, $7::int[], $8::bigint[], $9::int[], $10::bigint[], $11::bigint[]);

-- name: note
INSERT INTO clock_notes (machine, shard, at_s, valkey_s, ledger_s, epoch, last_seq, clock_steps, clock_shift_ms, noted_at)
SELECT $1, u.shard, $2, $3, $4, u.epoch, u.last_seq, u.steps, u.shift_ms, clock_timestamp()
  FROM unnest($5::int2[], $6::int[], $7::bigint[], $8::int[], $9::bigint[]) AS u(shard, epoch, last_seq, steps, shift_ms)
    ON CONFLICT (machine, shard) DO UPDATE
   SET at_s = excluded.at_s, valkey_s = excluded.valkey_s, ledger_s = excluded.ledger_s, epoch = excluded.epoch,
       last_seq = excluded.last_seq, clock_steps = excluded.clock_steps, clock_shift_ms = excluded.clock_shift_ms,
       noted_at = excluded.noted_at;

-- name: forget
-- Of machines that were not heard of for a week; a boot makes a new name.
DELETE FROM clock_notes WHERE noted_at < clock_timestamp() - interval '7 days';

-- name: noted
SELECT shard, at_s, valkey_s, ledger_s, epoch, last_seq, clock_steps, clock_shift_ms FROM clock_notes WHERE machine = $1;
