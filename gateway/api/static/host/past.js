// What this page has heard since the last report: by second viewers, comments and orders, of which the chart's newest points are
// made. The report has everything before.

import { effect } from "../ui/ui.js";

const MOST_SECONDS = 900; // reports come each 10 s; so long may they be missing
const REPORT_SOON_MS = 1_200; // after an act, until its mark is in the ledger
const ACTS = new Set(["pin", "announce", "price", "sale", "room"]);

const desks = new WeakMap();

/** One for each desk, from the first call on. */
export function pastOf(desk) {
  if (!desks.has(desk)) desks.set(desk, openPast(desk));
  return desks.get(desk);
}

function openPast(desk) {
  const seconds = new Map(); // by second: {viewers, comments, orders}, oldest first
  const coupons = new Map(); // a drop is told as a coupon whose end is another one
  let room = null, figures = null, soon = null;

  effect(() => {
    const now = desk.room.value?.room ?? null;
    if (now === room) return;
    room = now;
    figures = null;
    seconds.clear();
    coupons.clear();
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

  return { seconds };
}
