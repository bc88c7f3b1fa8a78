// What this page has seen of a show itself: the figures of the last twenty minutes, and the seconds since the last report.
//
// The gateway's report has the whole past of viewers, comments and orders, but of the other figures only where they stand now.
// How those have gone is known as far back as this tab has looked; a reload forgets nothing of it.

import { effect, signal } from "../ui/ui.js";

const SAMPLED_EVERY_MS = 10_000, KEPT_MS = 21 * 60_000, MOST_SAMPLES = KEPT_MS / SAMPLED_EVERY_MS;
const MOST_SECONDS = 900; // reports come each 10 s; so long may they be missing
const REPORT_SOON_MS = 1_200; // after an act, until its mark is in the ledger
const ACTS = new Set(["pin", "announce", "price", "sale", "room"]);
const KEPT_AS = "peakgate:past";
export const SAMPLED = ["orders_placed", "orders_confirmed", "orders_paid", "gmv_placed_minor", "gmv_paid_minor",
  "visits", "shop_entries", "watch_avg_s",
  "new_customer_share", "ordering_viewers_per_shop_viewer", "currency"];

const desks = new WeakMap();

/** One for each desk, from the first call on. */
export function pastOf(desk) {
  if (!desks.has(desk)) desks.set(desk, openPast(desk));
  return desks.get(desk);
}

function openPast(desk) {
  const samples = signal([]); // {at_ms, …SAMPLED}, oldest first
  const seconds = new Map(); // by second: {viewers, comments, orders}, oldest first
  let room = null, figures = null, soon = null;

  effect(() => {
    const now = desk.room.value?.room ?? null;
    if (now === room) return;
    room = now;
    figures = null;
    seconds.clear();
    samples.value = kept(room).filter(({ at_ms }) => at_ms > Date.now() - KEPT_MS);
  });

  effect(() => {
    const client = desk.client.value;
    return client?.on("tick", (tick) => {
      const said = tick.ev.filter(({ k }) => k === "comment").length + (tick.skipped ?? 0);
      put(tick.now_ms, { viewers: tick.viewers ?? desk.viewers.peek(), comments: said });
      if (tick.ev.some(({ k }) => ACTS.has(k)) || tick.ev.some(isNewCoupon)) {
        soon ??= setTimeout(() => { soon = null; void desk.refreshReport(); }, REPORT_SOON_MS);
      }
    });
  });
  const coupons = new Map(); // a drop is told as a coupon whose end is another one
  const isNewCoupon = ({ k, coupon, claim_until_ms }) => {
    if (k !== "coupon" || coupons.get(coupon) === claim_until_ms) return false;
    coupons.set(coupon, claim_until_ms);
    return true;
  };

  effect(() => {
    const now = desk.figures.value;
    if (now && figures) put(now.at_ms, { orders: Math.max(0, now.orders_placed - figures.orders_placed) });
    figures = now;
  });

  function put(at_ms, { viewers, comments = 0, orders = 0 }) {
    const second = Math.floor(at_ms / 1000), had = seconds.get(second) ?? { viewers: null, comments: 0, orders: 0 };
    seconds.set(second, { viewers: viewers ?? had.viewers, comments: had.comments + comments, orders: had.orders + orders });
    for (const oldest of seconds.keys()) {
      if (seconds.size <= MOST_SECONDS) break;
      seconds.delete(oldest);
    }
  }

  // Figures that did not change are not told again, so that they stand as long as the line is open.
  const sample = () => {
    const figures = desk.figures.peek();
    if (desk.room.peek()?.state !== "live" || desk.link.peek() !== "open" || !figures) return;
    const now = { at_ms: desk.now() };
    for (const name of SAMPLED) now[name] = figures[name];
    samples.value = [...samples.peek(), now].slice(-MOST_SAMPLES);
    keep(room, samples.peek());
  };
  effect(() => {
    const second = desk.second.value, last = samples.peek().at(-1)?.at_ms ?? 0;
    if (second - last >= SAMPLED_EVERY_MS) sample();
  });

  return { samples, seconds };
}

// One room's at a time: a tab looks at one show.

function kept(room) {
  try {
    const had = JSON.parse(sessionStorage.getItem(KEPT_AS));
    return had?.room === room ? had.samples : [];
  } catch { return []; }
}

function keep(room, samples) {
  try { sessionStorage.setItem(KEPT_AS, JSON.stringify({ room, samples })); } catch { /* full or forbidden */ }
}
