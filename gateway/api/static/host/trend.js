// How a figure has gone: the last ten minutes against the ten before.
//
// What is compared with what:
// - viewers at once, comments and orders: the report's timeline, so also of the time before this page was opened. Viewers are the
//   mean of the points of each ten minutes, comments and orders their number in it.
// - orders paid and money: what was added to the figure in each ten minutes, as this page saw it.
// - shares and rates: that of the orders, entries, visits of each ten minutes alone, as this page saw them.
// - mean watch time, and viewers who ordered of those in the shop: the figure as it is now against what it was ten minutes ago.
//   Both are of different people over the whole show and cannot be taken apart by time.
// Where one of the two ten minutes is not known as a whole there is no trend.

import { mean } from "./timeline.js";

export const SPAN_MS = 600_000;
const OFF_BY_MS = 30_000; // a sample so far from the minute asked for still stands for it
const STEADY = 0.03, WORSE = -0.05;
const ENOUGH = 10; // so many viewers, comments or orders were there before; fewer say nothing about what is worst

const added = (name) => (from, to) => to[name] - from[name];
const ratio = (of, by) => (from, to) => (to[by] > from[by] ? (to[of] - from[of]) / (to[by] - from[by]) : null);

/** By figure how a span of two samples is read, and what has to be in it to be told from chance. */
const OF_SPANS = {
  orders_paid: { read: added("orders_paid"), seen: added("orders_paid") },
  gmv_placed_minor: { read: added("gmv_placed_minor"), seen: added("orders_placed"), isMoney: true },
  gmv_paid_minor: { read: added("gmv_paid_minor"), seen: added("orders_paid"), isMoney: true },
  payment_rate: { read: ratio("orders_paid", "orders_placed"), seen: added("orders_placed") },
  orders_per_entry: { read: ratio("orders_placed", "shop_entries"), seen: added("orders_placed") },
  orders_per_visit: { read: ratio("orders_placed", "visits"), seen: added("orders_placed") },
  new_customer_share: {
    read: (from, to) => (to.orders_confirmed > from.orders_confirmed
      ? (firsts(to) - firsts(from)) / (to.orders_confirmed - from.orders_confirmed)
      : null),
    seen: (from, to) => firsts(to) - firsts(from),
  },
};
/** The share is told to four digits; what it is of is a whole number. */
const firsts = ({ new_customer_share, orders_confirmed }) => Math.round((new_customer_share ?? 0) * orders_confirmed);
const AS_THEY_STAND = ["watch_avg_s", "ordering_viewers_per_shop_viewer"];

/** By figure `{change, now, before, isWorst}`; `change` is a share (-0.2 is a fifth less), null where there was nothing before. */
export function trendsOf({ points, samples, now }) {
  const trends = new Map();
  const put = (name, last, before, seen) => {
    if (last === null || before === null || !Number.isFinite(last) || !Number.isFinite(before) || (last === 0 && before === 0)) return;
    trends.set(name, { now: last, before, change: before ? (last - before) / before : null, isSure: seen >= ENOUGH });
  };
  fromPoints(points, now, put);
  const [ago20, ago10, latest] = [2 * SPAN_MS, SPAN_MS, 0].map((ago) => sampleAt(samples, now - ago));
  if (latest && ago10) for (const name of AS_THEY_STAND) put(name, latest[name] ?? null, ago10[name] ?? null, ENOUGH);
  if (latest && ago10 && ago20) {
    for (const [name, { read, seen, isMoney }] of Object.entries(OF_SPANS)) {
      if (isMoney && ago20.currency !== latest.currency) continue; // another currency has most orders now
      put(name, read(ago10, latest), read(ago20, ago10), seen(ago20, ago10));
    }
  }
  const worst = [...trends].filter(([, { change, isSure }]) => isSure && change !== null && change <= WORSE)
    .sort(([, one], [, other]) => one.change - other.change)[0];
  if (worst) worst[1].isWorst = true;
  return trends;
}

/** "up", "down" or "steady". */
export const wayOf = ({ change }) => (change === null ? "up" : Math.abs(change) < STEADY ? "steady" : change > 0 ? "up" : "down");

function fromPoints({ at, width_ms, viewers, comments, orders }, now, put) {
  const middle = now - SPAN_MS, first = middle - SPAN_MS;
  if (!at.length || at[0] > first + width_ms) return;
  const within = (column, from, to) => column.filter((value, index) => value !== null && at[index] >= from && at[index] < to);
  put("viewers_now", mean(within(viewers, middle, now)), mean(within(viewers, first, middle)), mean(within(viewers, first, middle)) ?? 0);
  for (const [name, column] of [["comments", comments], ["orders_placed", orders]]) {
    const [last, before] = [within(column, middle, now), within(column, first, middle)].map((rates) => mean(rates) * (SPAN_MS / 1000));
    put(name, last, before, before);
  }
}

function sampleAt(samples, at_ms) {
  let found = null;
  for (const sample of samples) if (!found || Math.abs(sample.at_ms - at_ms) < Math.abs(found.at_ms - at_ms)) found = sample;
  return found && Math.abs(found.at_ms - at_ms) <= OFF_BY_MS ? found : null;
}
