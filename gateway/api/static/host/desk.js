// The host's desk without its drawing: the shop's rooms, the chosen one, and all that its panels show.
//
// What the room is told comes by the socket (live-line.js), what only hosts are told of a sale is asked for (sale-watch.js).

import { batch, signal, toast } from "../ui/ui.js";
import { onceOnly } from "./doubts.js";
import { explain, t } from "./errors.js";
import { LiveLine } from "./live-line.js";
import { SaleWatch } from "./sale-watch.js";

const ROOMS_ASKED = 100, ROOMS_EVERY_MS = 30_000, ROOM_EVERY_MS = 15_000;
const REPORT_EVERY_MS = 10_000, OVER_EVERY_MS = 30_000, FINAL_SOON_MS = 2_000;
const path = encodeURIComponent;

/** `session`: the signal of ui/session.js. `refreshToken` brings a fresh one before the old one ends. */
export function openDesk({ http, session, refreshToken }) {
  const rooms = signal(null), roomsError = signal(null), room = signal(null), second = signal(Date.now());
  const report = signal(null), trend = signal(null);
  let chosen = null, isOpen = true, finalTimer = null, asks = 0, taken = 0;

  const now = () => line.now();
  const line = new LiveLine({
    token: () => session.value?.token, refreshToken,
    onRoom: () => desk.refreshRoom(),
    onSale: (sale) => (watch.knows(sale) ? watch.refreshSoon(sale) : desk.refreshRoom()),
    onFigures: () => watch.refreshOpenSoon(),
  });
  const watch = new SaleWatch({ http, now });

  const desk = {
    http, session, now, second,
    rooms, roomsError, room, report, trend,
    client: line.client, link: line.link, linkCode: line.code,
    viewers: line.viewers, likes: line.likes, chat: line.chat, pin: line.pin, announcement: line.announcement,
    comments: line.comments, skipped: line.skipped, figures: line.figures, feed: line.feed, feedMissed: line.feedMissed,
    sales: watch.sales, pace: watch.pace,
    refreshSale: (sale) => watch.refresh(sale),

    /** The shop's rooms, newest first. */
    async refreshRooms() {
      try {
        const { items } = await http.get(`/v1/rooms?limit=${ROOMS_ASKED}`);
        batch(() => { rooms.value = items; roomsError.value = null; });
      } catch (error) { roomsError.value = error; }
    },

    /** Takes a room (its object or id) as the one the panels show; null leaves it. Resolves with it, or null. */
    async choose(wanted) {
      const id = typeof wanted === "string" ? wanted : wanted?.room ?? null;
      if (id === chosen && room.value) return room.value;
      chosen = id;
      line.leave();
      batch(() => {
        room.value = report.value = trend.value = null;
        line.forget();
        watch.forget();
      });
      if (!id) return null;
      return desk.refreshRoom();
    },

    /** Whether the chosen room is still being read. */
    isChoosing: () => chosen !== (room.peek()?.room ?? null),

    /** Asks for the chosen room anew, and takes up what is new in it. */
    async refreshRoom() {
      const id = chosen, ask = ++asks;
      if (!id) return null;
      let found;
      try { found = await http.get(`/v1/rooms/${path(id)}`); } catch (error) {
        if (id === chosen && !room.value) {
          chosen = null;
          toast(error.code === "not_found" ? t("no_room") : explain(error), "bad");
        }
        return null;
      }
      if (id !== chosen) return null;
      if (ask < taken) return room.value; // a later question was answered before
      taken = ask;
      const isNew = room.value === null, hasEnded = found.state === "ended" && room.value?.state !== "ended";
      room.value = found;
      watch.follow((found.sales ?? []).map((sale) => sale.sale));
      if (found.state === "ended") line.leave(); // its sockets have ended
      else if (isNew) line.join(found.live_url);
      if (found.state === "ended" && line.viewers.value === null) line.viewers.value = found.viewers ?? 0;
      if (isNew || hasEnded) {
        void refreshFigures(id);
        void desk.refreshReport();
        void refreshTrend();
      }
      const listed = rooms.value?.find((each) => each.room === id);
      if (listed && (listed.state !== found.state || listed.title !== found.title)) void desk.refreshRooms();
      return found;
    },

    async refreshReport() {
      const id = chosen;
      if (!id) return;
      try {
        const found = await http.get(`/v1/rooms/${path(id)}/report`), isNews = found.final && !report.value?.final;
        if (id !== chosen) return;
        report.value = found;
        if (room.value?.state !== "ended") return;
        // The gateway's answer may be of a moment before the end.
        clearTimeout(finalTimer);
        if (!found.final) finalTimer = setTimeout(() => desk.refreshReport(), FINAL_SOON_MS);
        else if (isNews) void refreshFigures(id);
      } catch { /* asked again soon; the panels say how old it is */ }
    },

    /**
     * Does something, and says so if it failed. Resolves with the answer (`true` where there is none), or null. What is pressed
     * again before it has an answer is the same act.
     * `words`: `{done, failed}`: what to say when it is done; `failed(error)` gives own words for an error, null for
     * the usual ones, "" where it is said elsewhere.
     */
    async act(method, address, body, words = {}) {
      let answer;
      try {
        answer = await send(method, address, body);
      } catch (error) {
        const said = words.failed?.(error) ?? explain(error);
        if (said) toast(said, "bad");
        afterwards(address);
        return null;
      }
      if (words.done) toast(words.done, "good");
      afterwards(address);
      return answer ?? true;
    },

    /** The page is seen again: a socket that died meanwhile is noticed at once. */
    wake() {
      line.client.value?.wake();
      void desk.refreshRoom();
    },

    close() {
      isOpen = false;
      line.leave();
      watch.forget();
      clearTimeout(secondTimer);
      clearTimeout(finalTimer);
      timers.forEach(clearInterval);
    },
  };

  const send = (method, address, body) => {
    switch (method) {
      case "POST": return onceOnly(JSON.stringify([address, body]), () => body, (same, key) => http.post(address, same, { key }));
      case "PUT": return http.put(address, body);
      case "PATCH": return http.patch(address, body);
      case "DELETE": return http.del(address);
      default: throw new TypeError(`No act is a ${method}.`);
    }
  };

  /** What an act may have changed is asked for at once, also when it failed: the outcome may be unknown. */
  function afterwards(address) {
    const sale = /^\/v1\/sales\/([^/?]+)/.exec(address)?.[1];
    if (sale) void watch.refresh(decodeURIComponent(sale));
    else if (/^\/v1\/rooms\/[^/?]+(\/(start|end))?$/.test(address)) void desk.refreshRoom();
  }

  /** How the figures have gone; a show that is over has no last ten minutes. */
  async function refreshTrend() {
    const id = chosen;
    if (room.value?.state !== "live") { trend.value = null; return; }
    try {
      const found = await http.get(`/v1/rooms/${path(id)}/trend`);
      if (id === chosen) trend.value = found;
    } catch { if (id === chosen) trend.value = null; } // one that is old is no trend
  }

  /** The figures as they are, before the socket tells of a change; of a show that has ended it never does. */
  async function refreshFigures(id) {
    try {
      const { at, ...found } = await http.get(`/v1/rooms/${path(id)}/metrics`), at_ms = Date.parse(at);
      if (id === chosen && !(line.figures.value?.at_ms > at_ms)) line.figures.value = { ...found, at_ms };
    } catch { /* the socket brings them, or the next question */ }
  }

  /** Of a show that is over orders are still paid, and still expire. */
  function refreshOver() {
    if (room.value?.state !== "ended") return;
    void refreshFigures(chosen);
    void desk.refreshReport();
  }

  let secondTimer;
  (function tickOver() {
    if (!isOpen) return;
    second.value = now();
    // On the gateway's second; a little late is better than a little early, where the old one would stand for another.
    secondTimer = setTimeout(tickOver, 1_010 - (second.value % 1_000));
  })();
  const timers = [
    setInterval(() => desk.refreshRooms(), ROOMS_EVERY_MS),
    setInterval(() => room.value?.state !== "ended" && desk.refreshRoom(), ROOM_EVERY_MS),
    setInterval(refreshOver, OVER_EVERY_MS),
    setInterval(() => room.value?.state === "live" && (desk.refreshReport(), refreshTrend()), REPORT_EVERY_MS),
  ];
  return desk;
}
