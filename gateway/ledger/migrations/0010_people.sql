-- Who brought a viewer to an order (links), who wants to be told when a show starts (bookings), who comes to collect what
-- was paid (pickups).

ALTER TABLE room_acts DROP CONSTRAINT room_acts_act_check;
ALTER TABLE room_acts ADD CONSTRAINT room_acts_act_check CHECK (act IN (
    'start', 'end', 'change', 'announce', 'pin', 'unpin', 'mute', 'unmute', 'ban', 'unban', 'chat', 'ban_word', 'allow_word',
    'retract', 'retract_all', 'link', 'redeem'));

-- What the shop sent along with an order stands in orders.extra, a JSON object of our writing or nothing. Its meta may hold
-- a \u0000, which text here cannot, and no payment may fail for that: it is read as a space.
CREATE FUNCTION read_extra(p_extra text) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN p_extra IS JSON OBJECT THEN replace(p_extra, '\u0000', '\u0020')::json END;
CREATE FUNCTION ref_of(p_extra text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN p_extra LIKE '%"ref"%' THEN read_extra(p_extra) ->> 'ref' END;

-- A link's content is given once: asked for again it is the same link, so that links grow with what the shop tells apart
-- and not with how often it asks.
CREATE TABLE links (
    link_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (link_no < 4294967296),  -- in four bytes of its ref
    ref      text COLLATE "C" NOT NULL UNIQUE,
    room_no  integer NOT NULL REFERENCES rooms,
    source   text COLLATE "C" NOT NULL CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    referrer text COLLATE "C" CHECK (length(referrer) BETWEEN 1 AND 64),
    guide    text COLLATE "C" CHECK (length(guide) BETWEEN 1 AND 64),
    made_by  text NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (room_no, source, referrer, guide)
);

-- Who gets the credit for the orders of some sales, for figures: a row an order that came by a link, whatever became of it.
-- Nobody refers themselves.
CREATE FUNCTION attributions(p_sales integer[])
RETURNS TABLE (sale_no integer, order_id text, source text, referrer text, guide text) LANGUAGE sql STABLE AS $$
    SELECT o.sale_no, o.order_id, l.source, nullif(l.referrer, o.viewer), l.guide
      FROM orders o JOIN links l ON l.ref = ref_of(o.extra)
     WHERE o.sale_no = ANY (p_sales)
$$;

-- While a room is scheduled; at its start they are what they are for good, for a change of them and the start lock the
-- same row of rooms.
CREATE TABLE bookings (
    room_no      integer NOT NULL REFERENCES rooms,
    viewer       text COLLATE "C" NOT NULL CHECK (length(viewer) BETWEEN 1 AND 64),
    booked_at_ms bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    PRIMARY KEY (room_no, viewer)
);

-- Rooms that started, and how far their bookings were told of it. Made in the transaction of the start, so that whoever
-- started the room may die after it.
CREATE TABLE booking_calls (
    room_no    integer PRIMARY KEY REFERENCES rooms,
    told_up_to text COLLATE "C" NOT NULL DEFAULT '',     -- the last viewer told, in the order of viewers
    told       integer NOT NULL DEFAULT 0,
    told_at    timestamptz                               -- all of them
);
CREATE INDEX booking_calls_open ON booking_calls (room_no) WHERE told_at IS NULL;

CREATE FUNCTION call_bookings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO booking_calls (room_no) SELECT NEW.room_no
     WHERE EXISTS (SELECT FROM bookings WHERE room_no = NEW.room_no)
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER rooms_call_bookings AFTER UPDATE OF state ON rooms FOR EACH ROW
    WHEN (NEW.state = 'live' AND OLD.state <> 'live') EXECUTE FUNCTION call_bookings();

-- Queues `booking.due` for the next bookings of a room that started, about p_most of them in the order of their viewers, and
-- moves on in the same transaction: so each is queued once, whoever does it and whoever dies. For a shop that does not want
-- to hear of it nothing is queued and all is told the same. Returns how many bookings these were, or NULL where there is
-- nothing to do: all are told, or somebody else is at it.
CREATE FUNCTION tell_bookings(p_room integer, p_most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    call     booking_calls%ROWTYPE;
    of_shop  integer;
    room_id  text;
    now_text text := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
    viewers  text[];
    objects  text[];
    bodies   text[];
    these    integer;
BEGIN
    SELECT * INTO call FROM booking_calls WHERE room_no = p_room AND told_at IS NULL FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN NULL; END IF;
    SELECT shop_no, room INTO of_shop, room_id FROM rooms WHERE room_no = p_room;
    SELECT array_agg(b.viewer ORDER BY b.viewer), array_agg(room_id || '/' || b.viewer ORDER BY b.viewer),
           array_agg(format('{"type":"booking.due","timestamp":"%s","data":{"room":"%s","sub":%s,"booked_at":"%s"}}',
                            now_text, room_id, to_json(b.viewer),
                            to_char(to_timestamp(b.booked_at_ms / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
                     ORDER BY b.viewer)
      INTO viewers, objects, bodies
      FROM (SELECT viewer, booked_at_ms FROM bookings WHERE room_no = p_room AND viewer > call.told_up_to
             ORDER BY viewer LIMIT p_most) b;
    these := coalesce(cardinality(viewers), 0);
    IF these > 0 THEN
        PERFORM queue_events(array_fill(of_shop, ARRAY[these]), array_fill('booking.due'::text, ARRAY[these]), objects,
                             array_fill(''::text, ARRAY[these]), bodies);
    END IF;
    UPDATE booking_calls SET told = told + these, told_up_to = coalesce(viewers[these], told_up_to),
           told_at = CASE WHEN these < p_most THEN clock_timestamp() END
     WHERE room_no = p_room;
    RETURN these;
END $$;

-- What a paid order is handed over for: shown by the viewer, redeemed once by the shop. A row an order that was paid and is
-- to be picked up; where, its extra says.
CREATE TABLE pickups (
    shop_no     integer NOT NULL REFERENCES shops,
    code        text COLLATE "C" NOT NULL CHECK (code ~ '^[0-9A-HJKMNP-TV-Z]{10}$'),
    sale_no     integer NOT NULL,
    order_id    text COLLATE "C" NOT NULL,
    given_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    redeemed_at timestamptz,
    redeemed_by text,
    PRIMARY KEY (shop_no, code),
    UNIQUE (sale_no, order_id),
    CHECK ((redeemed_at IS NULL) = (redeemed_by IS NULL))
);

-- Ten characters of Crockford's base32, 5 bits of chance each; the bytes of a random uuid that say its version are not among
-- those used.
CREATE FUNCTION pickup_code() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', get_byte(u.bytes, i) % 32 + 1, 1), '')
      FROM (SELECT uuid_send(gen_random_uuid()) AS bytes) u, unnest(array[0, 1, 2, 3, 4, 11, 12, 13, 14, 15]) AS i
$$;

-- In the transaction of the payment, whichever way it came. Orders that are not to be picked up do not get as far as here.
CREATE FUNCTION give_pickup() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    shop integer;
BEGIN
    -- A meta may have the word as well.
    IF (read_extra(NEW.extra) -> 'pickup') IS NULL THEN RETURN NULL; END IF;
    SELECT shop_no INTO shop FROM sales WHERE sale_no = NEW.sale_no;
    LOOP
        INSERT INTO pickups (shop_no, code, sale_no, order_id) VALUES (shop, pickup_code(), NEW.sale_no, NEW.order_id)
            ON CONFLICT DO NOTHING;
        -- The code was another order's: the next one.
        EXIT WHEN FOUND OR EXISTS (SELECT FROM pickups WHERE sale_no = NEW.sale_no AND order_id = NEW.order_id);
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_give_pickup AFTER UPDATE OF status ON orders FOR EACH ROW
    WHEN (NEW.status = 'paid' AND OLD.status <> 'paid' AND NEW.extra LIKE '%"pickup"%') EXECUTE FUNCTION give_pickup();
