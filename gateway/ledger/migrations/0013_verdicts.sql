-- What a host's console asks for: what the last audit said of a sale, and who was muted or banned last.

-- The keeper's last word on each sale that runs, written over by its next audit; of one that ended long ago it stays. A sale
-- that was never audited has no row.
CREATE TABLE sale_verdicts (
    sale_no    integer PRIMARY KEY REFERENCES sales,
    audited_at timestamptz NOT NULL,                     -- when the audit began
    holds      boolean,                                  -- null: it could not be judged, or the next audit is to confirm it
    broken     jsonb NOT NULL CHECK (jsonb_typeof(broken) = 'array'),  -- [{rule, detail}], as the host is shown it
    why_not    text,                                     -- why it is null
    CHECK (holds IS NULL OR why_not IS NULL)
) WITH (fillfactor = 50);

-- Given anew by each act, so that they have an order.
ALTER TABLE room_mutes ADD COLUMN mute_no bigint GENERATED ALWAYS AS IDENTITY;
ALTER TABLE room_bans ADD COLUMN ban_no bigint GENERATED ALWAYS AS IDENTITY;
