// How a figure has gone: the last ten minutes of the show against the ten before, as the gateway's trend has them. The figures it
// does not have are of different people over the whole show, and cannot be taken apart by time.

const STEADY = 0.03, WORSE = -0.05;
const ENOUGH = 10; // so many viewers, comments or orders were there before; fewer say nothing about what is worst

/** By figure of the console its name in the trend, and what of the ten minutes before has to be enough to tell it from chance. */
const FROM = {
  viewers_now: ["viewers_avg", "viewers_avg"],
  comments: ["comments", "comments"],
  orders_placed: ["orders_placed", "orders_placed"],
  orders_paid: ["orders_paid", "orders_paid"],
  gmv_placed_minor: ["gmv_placed_minor", "orders_placed"],
  gmv_paid_minor: ["gmv_paid_minor", "orders_paid"],
  payment_rate: ["payment_rate", "orders_placed"],
  orders_per_entry: ["orders_per_entry", "orders_placed"],
};

export const TRENDED = new Set(Object.keys(FROM));

/**
 * By figure `{last, before, change, isWorst}`; `change` is a share (-0.2 is a fifth less), null where there was nothing before or
 * where the show has not run for both ten minutes, and then `isWhole` is false. Nothing is said before the first ten are over.
 */
export function trendsOf(trend) {
  const trends = new Map();
  if (!trend || trend.last_s < trend.span_s) return trends;
  for (const [name, [from, seen]] of Object.entries(FROM)) {
    const { last, before } = trend.figures[from], isWhole = trend.complete && before !== null;
    if (last === null || (isWhole && last === 0 && before === 0)) continue;
    const change = isWhole && before ? (last - before) / before : null;
    trends.set(name, { last, before, isWhole, change, isSure: trend.figures[seen].before >= ENOUGH });
  }
  const worst = [...trends.values()].filter(({ change, isSure }) => isSure && change !== null && change <= WORSE)
    .sort((one, other) => one.change - other.change)[0];
  if (worst) worst.isWorst = true;
  return trends;
}

/** "up", "down" or "steady" of one that is whole. */
export const wayOf = ({ change }) => (change === null ? "up" : Math.abs(change) < STEADY ? "steady" : change > 0 ? "up" : "down");
