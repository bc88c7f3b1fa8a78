-- Who was in a room and for how long, and how many at once.

-- A row a room and viewer (the `sub`), staff not among them. Instants are by this server's clock.
CREATE TABLE room_viewers (
    room_no        integer NOT NULL,                     -- no reference: a restored ledger may lack a room that goes on
    viewer         text COLLATE "C" NOT NULL,
    visits         integer NOT NULL CHECK (visits >= 0),              -- sockets that were welcomed
    first_ms       bigint NOT NULL,
    last_ms        bigint NOT NULL,
    watch_ms       bigint NOT NULL CHECK (watch_ms >= 0),
    show_ms        bigint NOT NULL CHECK (show_ms >= 0),              -- of it, between the start and the end of the show
    shop_entries   integer NOT NULL CHECK (shop_entries >= 0),
    first_entry_ms bigint,
    PRIMARY KEY (room_no, viewer)
) WITH (fillfactor = 80);

-- Up to which flush a live process was counted, so that one repeated after a lost reply counts once.
CREATE TABLE attendance_marks (
    process  text COLLATE "C" PRIMARY KEY,               -- another one at each start
    flush_no bigint NOT NULL,
    at       timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What a process has not told of a room: the sockets that are open there, and the visits it could not hold. A process that
-- was killed leaves its row, which says how many sockets lack their last seconds.
CREATE TABLE attendance_open (
    process text COLLATE "C" NOT NULL,
    room_no integer NOT NULL,
    open    integer NOT NULL CHECK (open >= 0),
    missed  integer NOT NULL CHECK (missed >= 0),
    PRIMARY KEY (process, room_no)
) WITH (fillfactor = 50);
CREATE INDEX attendance_open_by_room ON attendance_open (room_no);

-- How many sockets a live room had in each five seconds. A row of 0 says that all have left; without a row behind a row of
-- others nobody looked.
CREATE TABLE room_samples (
    room_no integer NOT NULL,
    at_ms   bigint NOT NULL,                             -- when the five seconds began
    viewers integer NOT NULL CHECK (viewers >= 0),       -- at their end
    peak    integer NOT NULL CHECK (peak >= 0),          -- the most of them
    PRIMARY KEY (room_no, at_ms)
);
CREATE INDEX rooms_live ON rooms (room_no) WHERE state = 'live';

-- Adds what a process counted since its last flush: one element an array for a viewer of a room, ordered by both, so that
-- processes never wait for each other in a circle. Instants come as their age in ms: two machines' clocks need not agree.
-- p_open_* are totals of a room, not differences. Returns whether it was counted: not when it had been before.
CREATE FUNCTION count_attendance(
    p_process text, p_flush_no bigint,
    p_rooms integer[], p_viewers text[], p_visits integer[], p_from_ago bigint[], p_to_ago bigint[], p_watch_ms bigint[],
    p_entries integer[], p_entry_ago bigint[],
    p_open_rooms integer[], p_open integer[], p_missed integer[])
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint;
BEGIN
    INSERT INTO attendance_marks AS m VALUES (p_process, p_flush_no, clock_timestamp())
        ON CONFLICT (process) DO UPDATE SET flush_no = excluded.flush_no, at = excluded.at
         WHERE m.flush_no < excluded.flush_no;
    IF NOT FOUND THEN RETURN false; END IF;
    now_ms := extract(epoch FROM clock_timestamp()) * 1000;
    INSERT INTO room_viewers AS v
    SELECT u.room_no, u.viewer, u.visits, now_ms - u.from_ago, now_ms - u.to_ago, u.watch_ms,
           -- Where the show begins or ends within what is told at once, a pause in it counts as watched at most once.
           CASE WHEN r.started_at_ms IS NULL THEN 0
                ELSE greatest(0, least(u.watch_ms, least(now_ms - u.to_ago, coalesce(r.ended_at_ms, now_ms))
                                                   - greatest(now_ms - u.from_ago, r.started_at_ms))) END,
           u.entries, now_ms - u.entry_ago
      FROM unnest(p_rooms, p_viewers, p_visits, p_from_ago, p_to_ago, p_watch_ms, p_entries, p_entry_ago)
           AS u(room_no, viewer, visits, from_ago, to_ago, watch_ms, entries, entry_ago)
      LEFT JOIN rooms r ON r.room_no = u.room_no
     ORDER BY u.room_no, u.viewer COLLATE "C"
        ON CONFLICT (room_no, viewer) DO UPDATE SET
           visits = v.visits + excluded.visits,
           first_ms = least(v.first_ms, excluded.first_ms),
           last_ms = greatest(v.last_ms, excluded.last_ms),
           watch_ms = v.watch_ms + excluded.watch_ms,
           show_ms = v.show_ms + excluded.show_ms,
           shop_entries = v.shop_entries + excluded.shop_entries,
           first_entry_ms = least(v.first_entry_ms, excluded.first_entry_ms);
    INSERT INTO attendance_open AS o
    SELECT p_process, u.* FROM unnest(p_open_rooms, p_open, p_missed) AS u(room_no, open, missed)
        ON CONFLICT (process, room_no) DO UPDATE SET open = excluded.open, missed = excluded.missed;
    DELETE FROM attendance_open WHERE process = p_process AND room_no = ANY (p_open_rooms) AND open = 0 AND missed = 0;
    IF p_flush_no = 1 THEN
        DELETE FROM attendance_marks m
         WHERE m.at < clock_timestamp() - interval '7 days'
           AND NOT EXISTS (SELECT FROM attendance_open o WHERE o.process = m.process);
    END IF;
    RETURN true;
END $$;
