-- What a host's console compares the last minutes with: visits, entries and likes over time, and payments by when they came.

-- A row a room and five seconds in which something was counted; the sums of a room are those of room_viewers.
CREATE TABLE room_visits (
    room_no      integer NOT NULL,                       -- no reference: a restored ledger may lack a room that goes on
    at_ms        bigint NOT NULL,                        -- when the five seconds began in which it was counted
    visits       integer NOT NULL CHECK (visits >= 0),
    shop_entries integer NOT NULL CHECK (shop_entries >= 0),
    PRIMARY KEY (room_no, at_ms)
) WITH (fillfactor = 50);

-- All likes of the room when the sample was taken. NULL: it was taken before they were kept.
ALTER TABLE room_samples ADD COLUMN likes bigint CHECK (likes >= 0);

CREATE INDEX payments_by_time ON payments (sale_no, received_at) WHERE state = 'applied';

-- As before, and by the time at which it was counted. The rows of room_visits are taken last and in order, so that
-- processes wait for each other there for the end of a transaction at most, and never in a circle.
CREATE OR REPLACE FUNCTION count_attendance(
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
    -- The rows of viewers may have been waited for: what this transaction shows from now on counts from now on.
    now_ms := extract(epoch FROM clock_timestamp()) * 1000;
    INSERT INTO room_visits AS t
    SELECT u.room_no, now_ms - now_ms % 5000, sum(u.visits), sum(u.entries)
      FROM unnest(p_rooms, p_visits, p_entries) AS u(room_no, visits, entries)
     GROUP BY u.room_no HAVING sum(u.visits) + sum(u.entries) > 0
     ORDER BY u.room_no
        ON CONFLICT (room_no, at_ms) DO UPDATE SET visits = t.visits + excluded.visits,
                                                   shop_entries = t.shop_entries + excluded.shop_entries;
    RETURN true;
END $$;
