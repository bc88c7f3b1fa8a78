-- What a shop may use of an installation that it shares. A shop without a row has the defaults; null is no limit.
CREATE TABLE shop_limits (
    shop_no        integer PRIMARY KEY REFERENCES shops,
    rooms_a_day    integer NOT NULL DEFAULT 50 CHECK (rooms_a_day BETWEEN 0 AND 1000000), -- by days of UTC
    viewers        integer CHECK (viewers BETWEEN 0 AND 100000000),              -- open sockets of viewers
    comments_per_s integer CHECK (comments_per_s BETWEEN 1 AND 1000000),         -- of viewers, in all rooms together
    changed_at     timestamptz NOT NULL DEFAULT now()
);
