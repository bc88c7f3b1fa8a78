// Everything the room shows, kept by its socket: no drawing here.
//
// Frames come many a second; comments are kept aside and told at most once a frame, everything else of a tick in one batch.

import { batch, computed, signal } from "@preact/signals";
import { PeakgateError, Room } from "peakgate";
import { openSales } from "./sales.js";
import { openTalk } from "./talk.js";

const LIKES_EVERY_MS = 500, MOST_LIKES = 100, LIKES_TOLD_WITHIN_MS = 3_000;
const LOOK_AGAIN_MS = 60_000; // what no frame tells (bookings), or one that was lost did, is at most this old
const FIRST_TRY_MS = 500, LAST_TRY_MS = 10_000;
const ROOM_ENDED = 4504;
const SAY_WITHIN_MS = 10_000;
const STATES = ["scheduled", "live", "ended"]; // in this order
const LIVE_URL = globalThis.document?.querySelector('meta[name="peakgate-live"]')?.content;

const ms = (instant) => (instant ? Date.parse(instant) : null);
const later = (work, wait) => setTimeout(work, wait);

/** What HTTP says of a room, in the words of the socket. */
const roomOf = (told) => ({
  room: told.room, title: told.title, state: told.state, starts_at_ms: ms(told.starts_at), stream_url: told.stream_url ?? null,
  notice: told.notice ?? null, bookings: told.bookings, booked: told.booked,
});

/** `session` is the signal of ui/session.js, `refreshToken` what brings a fresh token. */
export function openShow({ room: roomId, http, session, refreshToken }) {
  const client = signal(null), link = signal("connecting"), linkCode = signal(null);
  const room = signal(null), viewers = signal(0), me = signal(null), trouble = signal(null);
  const announcement = signal(null), pin = signal(null), chat = signal({ slow_mode_s: 0, comments: "on" }), coupons = signal([]);
  const now = () => client.peek()?.now() ?? Date.now();
  const second = signal(now());
  const talk = openTalk({ me });
  const sales = openSales({ http, now });
  const likes = openLikes(client);
  let over = false, looking = null, moves = null;

  // The room's own description, by HTTP: before the socket, and what the socket does not tell.

  async function look() {
    const told = await http.get(`/v1/rooms/${encodeURIComponent(roomId)}`);
    if (!over) {
      batch(() => {
        const known = room.peek(), fresh = roomOf(told);
        // The socket may have said meanwhile what came after; a room never goes back.
        room.value = known && STATES.indexOf(known.state) > STATES.indexOf(fresh.state) ? { ...fresh, state: known.state } : fresh;
        if (!client.peek()) viewers.value = told.viewers ?? 0;
      });
    }
    return told;
  }

  async function comeIn(tries = 0) {
    // Where the socket is the page was told with itself; both ask at once.
    if (LIVE_URL && !client.peek()) enter(LIVE_URL.replace("{room}", encodeURIComponent(roomId)));
    try {
      const told = await look();
      if (over) return;
      trouble.value = null;
      if (told.state === "ended") {
        client.peek()?.close();
        batch(() => { link.value = "closed"; linkCode.value = ROOM_ENDED; });
      } else if (!client.peek()) enter(told.live_url);
    } catch (error) {
      if (over) return;
      if (!error.retryable) {
        client.peek()?.close();
        return batch(() => { link.value = "away"; trouble.value = error.code ?? "internal"; });
      }
      if (!client.peek()) link.value = "waiting";
      const wait = (error.retry_after_ms ?? 0) + Math.random() * Math.min(LAST_TRY_MS, FIRST_TRY_MS * 2 ** tries);
      later(() => over || comeIn(tries + 1), wait);
    }
  }

  /** Asks again for what no frame tells; a crowd that hears the same frame does not ask at once. */
  function lookSoon(within) {
    clearTimeout(looking);
    looking = later(async () => {
      const hidden = globalThis.document?.hidden;
      try { if (!hidden) await look(); } catch { /* the next one */ }
      if (!over && room.peek()?.state !== "ended") lookSoon(LOOK_AGAIN_MS * (1 + Math.random()));
    }, within);
  }

  // The socket.

  function enter(url) {
    const opened = new Room({ url, token: session.peek().token, refreshToken });
    opened.on("state", ({ state, code }) => batch(() => {
      link.value = state;
      if (code) linkCode.value = code;
      if (state === "open") linkCode.value = null;
      if (code === ROOM_ENDED) becomes({ state: "ended" });
    }));
    opened.on("welcome", (frame) => { me.value = frame.you; });
    opened.on("snapshot", (frame) => batch(() => {
      const { bookings, booked } = room.peek() ?? {};
      room.value = { ...frame.room, bookings, booked };
      viewers.value = frame.viewers;
      likes.told(frame.likes);
      pin.value = frame.pin;
      chat.value = frame.chat;
      coupons.value = frame.coupons;
      talk.start(frame.recent);
      sales.start(frame.sales);
    }));
    opened.on("tick", (frame) => batch(() => {
      if (frame.viewers !== undefined) viewers.value = frame.viewers;
      if (frame.likes !== undefined) likes.told(frame.likes);
      if (frame.skipped) talk.skip(frame.skipped);
      for (const event of frame.ev) hear(event, frame);
    }));
    // Who waits for the client has its listeners on it before the first frame.
    client.value = opened;
    opened.open();
    lookSoon(LOOK_AGAIN_MS * (1 + Math.random()));
  }

  function hear(event, frame) {
    switch (event.k) {
      case "comment": return talk.add(event);
      case "comment_gone": return talk.remove(event);
      case "announce": announcement.value = { text: event.text, at_ms: frame.now_ms }; return;
      case "pin": pin.value = event.pin; return;
      case "chat": chat.value = { slow_mode_s: event.slow_mode_s, comments: event.comments }; return;
      case "stock": case "price": case "sale": return sales.hear(event);
      case "coupon": return offer(event);
      case "room": return becomes(event);
    }
  }

  /** `changed`: its state, and what a host changed besides. */
  function becomes({ k: _, ...changed }) {
    if (room.peek()) room.value = { ...room.peek(), ...changed };
  }

  function offer({ coupon, title, left, claim_until_ms }) {
    const known = coupons.peek(), offered = { coupon, title, left, claim_until_ms };
    coupons.value = known.some((each) => each.coupon === coupon)
      ? known.map((each) => (each.coupon === coupon ? offered : each)) : [...known, offered].slice(-20);
  }

  // Time: one clock for everything that counts down, on the gateway's second.

  function move() {
    const at = now();
    second.value = at;
    if (coupons.peek().some((each) => each.claim_until_ms <= at)) coupons.value = coupons.peek().filter((each) => each.claim_until_ms > at);
    moves = later(move, 1_000 - (at % 1_000) + 5);
  }
  move();
  comeIn();

  return {
    http, link, linkCode, trouble, room, viewers, announcement, pin, chat, coupons, me, second, now,
    /** Read in a computed or an effect it tells of the client when there is one. */
    get client() { return client.value; },
    likes: likes.total, like: likes.tap,
    comments: talk.comments, said: talk.said, skipped: talk.skipped, onComment: talk.onComment, onGone: talk.onGone,
    sales: sales.sales, refreshSale: sales.refresh,
    /** The sale and the item by their names, or null. */
    item: (sale, sku) => computed(() => sales.find(sale, sku)),
    pinnedItem: computed(() => (pin.value?.sku === undefined ? null : sales.find(pin.value.sale, pin.value.sku))),
    refreshRoom: () => look(),
    /** The same `id` is posted once at most. */
    async say(text, { id } = {}) {
      if (!client.peek()) throw new PeakgateError("away", "The room is not open.");
      const answer = await client.peek().comment(text, { id, withinMs: SAY_WITHIN_MS });
      const name = session.peek()?.claims?.name ?? "";
      if (answer.outcome === "posted") talk.mine({ comment: answer.comment, viewer: me.peek(), name, text, at_ms: answer.at_ms });
      return answer;
    },
    wake() { client.peek()?.wake(); },
    leave() {
      over = true;
      clearTimeout(moves);
      clearTimeout(looking);
      likes.stop();
      client.peek()?.close();
    },
  };
}

/** Taps are shown at once and sent together; what the gateway counted replaces what was shown. */
function openLikes(client) {
  const total = signal(0);
  let counted = 0, waiting = 0, sent = 0, sentAt = 0, timer = null;
  const show = () => { total.value = counted + sent + waiting; };

  function send() {
    timer = null;
    const n = Math.min(waiting, MOST_LIKES);
    if (n && client.peek()?.like(n)) {
      waiting = 0;
      sent += n;
      sentAt = Date.now();
    }
    if (waiting) timer = setTimeout(send, LIKES_EVERY_MS);
  }

  return {
    total,
    tap() {
      if (waiting < MOST_LIKES) waiting += 1;
      show();
      timer ??= setTimeout(send, Math.max(0, LIKES_EVERY_MS - (Date.now() - sentAt)));
    },
    told(likes) {
      // A total that grew holds what was sent before; one that never comes was not counted.
      if (likes > counted || Date.now() - sentAt > LIKES_TOLD_WITHIN_MS) sent = 0;
      counted = likes;
      show();
    },
    stop() { clearTimeout(timer); },
  };
}
