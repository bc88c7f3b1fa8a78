// The points of a show's chart: the report's timeline, and what was seen since the report.

const LEAST_WIDTH_MS = 5_000; // a point for each second is noise
export const MOST_POINTS = 150; // of a picture that is some 400 px wide; more would be a brush

/**
 * `{width_ms, at, viewers, comments, orders}`: columns of equal length, `at` in ms, rates a second; null where nobody looked.
 * `seconds`: what was seen since (past.js); `now`: until when, or null for nothing beyond the report.
 */
export function pointsOf(report, seconds = new Map(), now = null) {
  if (!report?.timeline.length) return { width_ms: LEAST_WIDTH_MS, at: [], viewers: [], comments: [], orders: [] };
  const told_ms = Date.parse(report.ended_at ?? report.at), from = Date.parse(report.timeline[0].at);
  const group = Math.max(1, Math.ceil(LEAST_WIDTH_MS / (report.bucket_s * 1000))), width_ms = group * report.bucket_s * 1000;
  const until = Math.max(told_ms, now ?? 0), size = Math.max(1, Math.ceil((until - from) / width_ms));
  const viewers = new Array(size).fill(null), comments = new Array(size).fill(0), orders = new Array(size).fill(0);
  const add = (at_ms, seen) => {
    const index = Math.floor((at_ms - from) / width_ms);
    if (index < 0 || index >= size) return;
    if (seen.viewers !== undefined && seen.viewers !== null) viewers[index] = Math.max(viewers[index] ?? 0, seen.viewers);
    comments[index] += seen.comments;
    orders[index] += seen.orders;
  };
  for (const { at, viewers: most, comments_per_s, orders_per_s } of report.timeline) {
    add(Date.parse(at), { viewers: most, comments: comments_per_s * report.bucket_s, orders: orders_per_s * report.bucket_s });
  }
  for (const [second, seen] of seconds) if (second * 1000 >= told_ms) add(second * 1000, seen);
  const at = viewers.map((_, index) => from + index * width_ms);
  const rates = (counts) => counts.map((n, index) => rate(n, Math.min(width_ms, until - at[index]), width_ms));
  return { width_ms, at, viewers, comments: rates(comments), orders: rates(orders) };
}

/** Of a point that is not over yet, once there is enough of it to say something. */
const rate = (n, length_ms, width_ms) => (length_ms < width_ms / 2 && n === 0 ? null : (n * 1000) / Math.max(length_ms, 1000));

/**
 * How many there were in the last minute, or as much of it as there was; of a show that is over, the mean of a minute. Null where
 * nothing is told. `of`: a rate of the timeline.
 */
export function perMinute(report, of) {
  if (!report?.timeline.length) return null;
  const { ended_at, bucket_s, timeline } = report, told_ms = Date.parse(ended_at ?? report.at), minute_ms = 60_000;
  const first = ended_at ? 0 : timeline.findIndex(({ at }) => Date.parse(at) + bucket_s * 1000 > told_ms - minute_ms);
  const last = timeline.slice(first), over_ms = told_ms - Date.parse(last[0].at);
  const n = last.reduce((sum, bucket) => sum + bucket[of] * bucket_s, 0);
  return Math.round((n * minute_ms) / (ended_at ? Math.max(1, over_ms) : Math.max(minute_ms, over_ms)));
}

/** The points from `from_ms` on. */
export function pointsSince(points, from_ms) {
  const first = points.at.findIndex((at) => at >= from_ms);
  if (first <= 0) return points;
  const cut = (column) => column.slice(first);
  return { width_ms: points.width_ms, at: cut(points.at), viewers: cut(points.viewers),
    comments: cut(points.comments), orders: cut(points.orders) };
}

/** The same in wider points, at most `most`, which lie at the same times however much of the show there is. */
export function wider(points, most) {
  const group = Math.ceil(points.at.length / most);
  if (group <= 1) return points;
  const width_ms = group * points.width_ms, found = { width_ms, at: [], viewers: [], comments: [], orders: [] };
  const of = (column, [first, end]) => column.slice(first, end).filter((value) => value !== null);
  for (const span of spansOf(points.at, width_ms)) {
    const viewers = of(points.viewers, span);
    found.at.push(points.at[span[0]]);
    found.viewers.push(viewers.length ? Math.max(...viewers) : null);
    found.comments.push(mean(of(points.comments, span)));
    found.orders.push(mean(of(points.orders, span)));
  }
  return found;
}

/** Where each run of times of the same `width_ms` begins and ends. */
function spansOf(at, width_ms) {
  const spans = [];
  at.forEach((time, index) => {
    if (index === 0 || Math.floor(time / width_ms) !== Math.floor(at[index - 1] / width_ms)) spans.push([index, index + 1]);
    else spans.at(-1)[1] = index + 1;
  });
  return spans;
}

/** The same as rows, at most about `most`. */
export function rowsOf(points, most) {
  const { at, viewers, comments, orders } = wider(points, most);
  return at.map((time, index) => ({ at: time, viewers: viewers[index], comments: comments[index], orders: orders[index] }));
}

export const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
