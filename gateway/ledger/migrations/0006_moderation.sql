-- What hosts set in a room: the chat, the pin, who may not speak or enter, what may not be said; and the log of their acts.
-- Viewers stand here as their pseudonym in the room, the only name a host knows them by.

-- A room nobody did anything to has no row. Acts on a room take its row's lock first, so that they have an order.
CREATE TABLE room_chat (
    room_no     integer PRIMARY KEY REFERENCES rooms,
    slow_mode_s integer NOT NULL DEFAULT 0 CHECK (slow_mode_s BETWEEN 0 AND 3600),
    comments    boolean NOT NULL DEFAULT true,
    pin         jsonb CHECK (jsonb_typeof(pin) = 'object'),  -- as the room is shown it
    likes       bigint NOT NULL DEFAULT 0 CHECK (likes >= 0),
    rules_no    bigint NOT NULL DEFAULT 0                    -- grows when the room's bans or words change
) WITH (fillfactor = 80);

CREATE TABLE room_mutes (
    room_no  integer NOT NULL REFERENCES rooms,
    viewer   text COLLATE "C" NOT NULL CHECK (length(viewer) <= 64),
    until_ms bigint NOT NULL,
    PRIMARY KEY (room_no, viewer)
);

-- A ban of the whole shop stands where it was spoken: elsewhere the same viewer has another pseudonym.
CREATE TABLE room_bans (
    room_no   integer NOT NULL REFERENCES rooms,
    viewer    text COLLATE "C" NOT NULL CHECK (length(viewer) <= 64),
    shop_no   integer NOT NULL REFERENCES shops,
    shop_wide boolean NOT NULL,
    PRIMARY KEY (room_no, viewer)
);
CREATE INDEX room_bans_shop_wide ON room_bans (shop_no) WHERE shop_wide;

-- Without a room: of the whole shop.
CREATE TABLE banned_words (
    word_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_no integer NOT NULL REFERENCES shops,
    room_no integer REFERENCES rooms,
    word    text COLLATE "C" NOT NULL CHECK (length(word) BETWEEN 1 AND 50),
    UNIQUE NULLS NOT DISTINCT (shop_no, room_no, word)
);

-- Grows when bans or words of the whole shop change; without a row: never yet. Its lock comes after the room's.
CREATE TABLE shop_rules (
    shop_no  integer PRIMARY KEY REFERENCES shops,
    rules_no bigint NOT NULL
);

-- Who did what to a room; what was done to its sales stands in acts.
CREATE TABLE room_acts (
    act_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_no integer NOT NULL REFERENCES rooms,
    at_ms   bigint NOT NULL,
    act     text NOT NULL CHECK (act IN ('start', 'end', 'change', 'announce', 'pin', 'unpin', 'mute', 'unmute', 'ban',
                                         'unban', 'chat', 'ban_word', 'allow_word', 'retract', 'retract_all')),
    actor   text NOT NULL,
    before  jsonb,
    after   jsonb,
    told    boolean NOT NULL DEFAULT true                -- an announcement the room was not told of yet: not
);
CREATE INDEX room_acts_by_room ON room_acts (room_no, at_ms DESC, act_no DESC);
CREATE INDEX room_acts_of_retraction ON room_acts (room_no, (after ->> 'comment')) WHERE act = 'retract';
