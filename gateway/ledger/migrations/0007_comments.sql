-- What was said in rooms, for as long as the shop keeps it. The rooms Valkey hands it over in a stream, at least once; the
-- primary key makes that once.

CREATE TABLE comments (
    room_no integer NOT NULL,                            -- no reference: a restored ledger may lack a room that talks
    epoch   bigint NOT NULL,                             -- of the room in Valkey: the ms at which it was opened there
    n       bigint NOT NULL,
    at_ms   bigint NOT NULL,
    viewer  text COLLATE "C" NOT NULL,                   -- the pseudonym the room saw
    sub     text COLLATE "C" NOT NULL,
    name    text NOT NULL,
    text    text NOT NULL,
    gone_at timestamptz,                                 -- when it was taken back, as far as the ledger heard
    gone_by text,
    PRIMARY KEY (room_no, epoch, n)
);
CREATE INDEX comments_by_time ON comments (room_no, at_ms);
-- All of a viewer are taken back at once, however much was said in the room.
CREATE INDEX comments_by_viewer ON comments (room_no, viewer);

-- Once a second the keeper asks which sales of rooms open or close about now.
CREATE INDEX sales_by_opening ON sales (opens_at_ms) WHERE room_no IS NOT NULL;
CREATE INDEX sales_by_closing ON sales (closes_at_ms) WHERE room_no IS NOT NULL;
